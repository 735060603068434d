from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from pilotis.contract.presets import default
from pilotis.derive.plan import Env, Llm, Plan, derive
from pilotis.online.answer import Answer, Ask, Done, Event, Passages, Token, answer
from pilotis.ports import CostEvent, Deps, Generator, Hit, Reranker
from pilotis.testing.ledger import MemoryLedger
from pilotis.testing.money import MemoryMoney
from pilotis.testing.online import Entry, HashingEmbedder, MemoryKeys, MemoryMeter, MemoryPassages
from pilotis.testing.safe import Safe

SENTENCES = {
    "backup.md": "Backups run every night. The backup of the database is kept for thirty days on a second site.",
    "limits.md": "Uploads are limited. A file larger than 100 MiB is refused with status 413.",
    "conges.md": "Les congés sont demandés dans l’intranet. Chaque salarié dispose de vingt-cinq jours de congés par an.",
}


class Collections:
    """The one question the online plane asks of documents."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self.known = known

    async def collections(self, bu: str) -> Mapping[str, int]:
        return self.known if bu == "legal" else {}


@dataclass
class World:
    """One of each in memory, with three documents of business unit `legal`."""

    passages: MemoryPassages = field(default_factory=MemoryPassages)
    embedder: HashingEmbedder = field(default_factory=HashingEmbedder)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    safe: Safe = field(default_factory=Safe)
    away: str | None = None
    """Why Redis cannot be reached."""
    meter: MemoryMeter = field(default_factory=MemoryMeter)
    generator: Generator | None = None
    others: tuple[Generator, ...] = ()
    """The compact model, the fallback."""
    reranker: Reranker | None = None
    plan: Plan = field(default_factory=lambda: derive(default()))
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> Env:
        changes = dict(self.changes)
        if self.generator is not None:
            changes["llm"] = Llm(model=self.generator.model, provider=self.generator.provider)
        return replace(self.plan.envs["dev"], hybrid=True, **{"on_unknown_price": "serve", **changes})

    @property
    def deps(self) -> Deps:
        nobody = cast("Any", None)
        money = MemoryMoney(self.env, safe=self.safe)
        money.away = self.away
        writers = [writer for writer in (self.generator, *self.others) if writer]
        return Deps(
            embedder=self.embedder,
            generators={writer.model: writer for writer in writers},
            reranker=self.reranker,
            blobs=nobody,
            parser=nobody,
            generation=nobody,
            generations=nobody,
            passages=self.passages,
            documents=cast("Any", Collections({"default": 3})),
            backlog=nobody,
            source_items=nobody,
            keys=MemoryKeys(),
            ledger=self.ledger,
            admission=money,
            cache=money,
            outbox=money,
            pace=nobody,
            guards=nobody,
            releases=nobody,
            splits=nobody,
            measures=nobody,
            evaluations=nobody,
            feedback=nobody,
            queue=nobody,
            meter=self.meter,
            instance="test",
        )

    @property
    def settled(self) -> list[CostEvent]:
        """What was settled, whichever way it goes to the ledger."""
        return [*(event for _, event in self.safe.stream), *self.ledger.rows.values()]

    async def add(
        self, name: str, text: str, *, start: int = 1000, bu: str = "legal", metadata: dict[str, object] | None = None
    ) -> None:
        hit = Hit(
            passage_id=f"p-{name}",
            document_id=f"d-{name}",
            document=name,
            collection="default",
            title=None,
            headings=(),
            page=None,
            start=start,
            end=start + len(text),
            language="fr" if "congés" in text else "en",
            text=text,
            score=0.0,
            dense=0.0,
            lexical=0.0,
        )
        vector = (await self.embedder.embed([text]))[0]
        self.passages.entries.append(Entry(bu=bu, hit=hit, vector=vector, metadata=metadata or {}))

    async def events(self, text: str, **fields: Any) -> list[Event]:
        ask = Ask(**{"bu": "legal", "text": text, **fields})
        return [event async for event in answer(ask, self.env, self.plan, self.deps)]

    async def answer(self, text: str, **fields: Any) -> tuple[Answer, str]:
        """The answer, and what was streamed."""
        events = await self.events(text, **fields)
        assert isinstance(events[0], Passages)
        assert isinstance(events[-1], Done)
        return events[-1].answer, "".join(event.text for event in events if isinstance(event, Token))


@pytest.fixture
async def world() -> World:
    made = World()
    for name, text in SENTENCES.items():
        await made.add(name, text)
    made.embedder.embedded.clear()
    return made
