from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from pilotis.batch.ingest import receive
from pilotis.contract import load
from pilotis.derive.plan import Env, Plan, derive
from pilotis.ports import Deps, Document
from pilotis.testing.backlog import MemoryBacklog, MemoryPace, MemoryQueue
from pilotis.testing.batch import MemoryDocuments, TextParser
from pilotis.testing.blobs import MemoryBlobs
from pilotis.testing.money import MemoryMoney
from pilotis.testing.online import HashingEmbedder, MemoryKeys, MemoryLedger, MemoryMeter, MemoryPassages
from pilotis.testing.sources import MemorySourceItems


@dataclass(frozen=True)
class Town:
    """The batch plane on fakes, each at hand."""

    plan: Plan
    env: Env
    deps: Deps
    documents: MemoryDocuments
    passages: MemoryPassages
    blobs: MemoryBlobs
    parser: TextParser
    queue: MemoryQueue
    embedder: HashingEmbedder
    ledger: MemoryLedger
    money: MemoryMoney
    folder: Path

    async def send(
        self, name: str = "a.md", text: str = "# Tolls\n\nSundays are free.", *, bu: str = "north"
    ) -> tuple[Document, bool]:
        path = self.folder / "content"
        path.write_text(text, encoding="utf-8")
        return await receive(
            path, self.env, self.deps, bu=bu, collection="default", name=name, media_type="text/markdown", metadata={}
        )

    async def state(self, document: Document) -> tuple[str, str | None]:
        now = await self.documents.get(document.bu, document.id)
        return now.state, now.error


@pytest.fixture
def town(tmp_path: Path) -> Town:
    passages = MemoryPassages()
    documents, blobs, parser, queue = MemoryDocuments(passages), MemoryBlobs(), TextParser(), MemoryQueue()
    embedder, ledger = HashingEmbedder(), MemoryLedger()
    plan = derive(load.default())
    money = MemoryMoney(plan.env("dev"))
    deps = Deps(
        embedder=embedder,
        generators={},
        reranker=None,
        blobs=blobs,
        parser=parser,
        generation=cast("Any", None),
        generations=cast("Any", None),
        passages=passages,
        documents=documents,
        backlog=MemoryBacklog(documents),
        source_items=MemorySourceItems(documents),
        keys=MemoryKeys(),
        ledger=ledger,
        admission=money,
        cache=money,
        outbox=money,
        pace=MemoryPace(),
        guards=cast("Any", None),
        releases=cast("Any", None),
        splits=cast("Any", None),
        measures=cast("Any", None),
        evaluations=cast("Any", None),
        feedback=cast("Any", None),
        queue=queue,
        meter=MemoryMeter(),
        instance="test",
    )
    return Town(plan, plan.env("dev"), deps, documents, passages, blobs, parser, queue, embedder, ledger, money, tmp_path)


@pytest.fixture(autouse=True)
def _no_shift_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, one call does all that waits."""
    monkeypatch.setattr("pilotis.batch.ingest.SHIFT_S", 60.0)
    monkeypatch.setattr("pilotis.batch.embed.SHIFT_S", 60.0)
