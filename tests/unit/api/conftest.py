"""The API over small stand-ins: what an edge reads and writes, without a server, a database or a model."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis.adapters.prometheus import PrometheusMeter
from pilotis.api.app import create_app
from pilotis.contract.presets import default
from pilotis.derive.plan import Env, Llm, Plan, derive
from pilotis.errors import NotFound, Transient, Unauthorised
from pilotis.ports import ApiKey, CostEvent, Deps, Document, Hit, NewDocument, Query, Waiting
from pilotis.service import Service
from pilotis.testing.money import MemoryMoney
from pilotis.testing.online import MemoryPassages, ScriptedGenerator
from pilotis.testing.quality import MemoryFeedback
from pilotis.testing.safe import Safe

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = "Create the new key first, move the callers to it, then revoke the old one. The old key stops at once."


@dataclass
class World:
    """What the stand-ins hold, and what they are told to suffer from."""

    plan: Plan
    env: Env
    spool: Path
    keys: dict[str, ApiKey] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    booked: list[CostEvent] = field(default_factory=list)
    safe: Safe = field(default_factory=Safe)
    nudges: list[str] = field(default_factory=list)
    purges: list[tuple[int, str, str]] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    broken: Exception | None = None
    index: MemoryPassages = field(default_factory=MemoryPassages)
    """Passages that a vote may name."""

    @property
    def in_ledger(self) -> list[CostEvent]:
        return self.booked

    @property
    def events(self) -> list[CostEvent]:
        """What was settled, whichever way it goes to the ledger."""
        return [*(event for _, event in self.safe.stream), *self.booked]

    def check(self, part: str) -> None:
        if part in self.away:
            raise Transient(f"{part} is away")
        if self.broken:
            raise self.broken


class Keys:
    def __init__(self, world: World) -> None:
        self.world = world

    async def resolve(self, secret: str) -> ApiKey:
        self.world.check("postgres")
        key = self.world.keys.get(secret)
        if key is None:
            raise Unauthorised("this API key is not known")
        if key.revoked_at:
            raise Unauthorised("this API key was revoked")
        return key


class Documents:
    def __init__(self, world: World) -> None:
        self.world = world

    async def register(self, new: NewDocument) -> tuple[Document, bool]:
        self.world.check("postgres")
        for held in self.world.documents.values():
            if (held.bu, held.collection, held.name) == (new.bu, new.collection, new.name):
                return held, held.sha256 != new.sha256
        number = len(self.world.documents) + 1
        document = Document(
            **{name: getattr(new, name) for name in ("bu", "collection", "name", "sha256", "size", "media_type", "metadata")},
            id=f"d{number}",
            state="received",
            error=None,
            attempts=0,
            failed_in=None,
            passages=0,
            pages=None,
            title=None,
            language=None,
            received_at=NOW,
            indexed_at=None,
        )
        self.world.documents[document.id] = document
        return document, True

    async def get(self, bu: str, document_id: str) -> Document:
        document = self.world.documents.get(document_id)
        if document is None or document.bu != bu:
            raise NotFound(f"there is no document {document_id!r}")
        return document

    async def find(
        self, bu: str, *, collection: str | None = None, state: str | None = None, limit: int = 100, after: str | None = None
    ) -> Sequence[Document]:
        wanted = (None, collection), (None, state)
        found = [
            d
            for d in self.world.documents.values()
            if d.bu == bu and d.collection in wanted[0] + (d.collection,) * (not collection)
        ]
        return [d for d in found if (not state or d.state == state) and (not after or d.id > after)][:limit]

    async def collections(self, bu: str) -> Mapping[str, int]:
        return {d.collection: 1 for d in self.world.documents.values() if d.bu == bu}

    async def delete(self, bu: str, document_id: str) -> None:
        await self.get(bu, document_id)
        del self.world.documents[document_id]
        self.world.purges.append((len(self.world.purges), bu, document_id))

    async def to_purge(self) -> Sequence[tuple[int, str, str]]:
        return self.world.purges

    async def purged(self, numbers: Sequence[int]) -> None:
        self.world.purges = [one for one in self.world.purges if one[0] not in numbers]

    async def reclaim(self, drop: Any) -> int:
        held = {d.sha256 for d in self.world.documents.values()}
        for digest in [d for d in self.world.blobs if d not in held]:
            await drop(digest)
        return 0


class Backlog:
    def __init__(self, world: World) -> None:
        self.world = world

    async def waiting(self) -> Sequence[Waiting]:
        self.world.check("postgres")
        units = Counter(document.bu for document in self.world.documents.values())
        return [Waiting(queue="ingest", bu=bu, documents=n, oldest_s=1.5) for bu, n in units.items()]


class Blobs:
    def __init__(self, world: World) -> None:
        self.world = world

    async def put(self, content: Path) -> tuple[str, int]:
        self.world.check("disk")
        body = content.read_bytes()
        digest = hashlib.sha256(body).hexdigest()
        self.world.blobs[digest] = body
        return digest, len(body)

    async def settle(self, sha256: str) -> None:
        assert sha256 in self.world.blobs

    async def exists(self, sha256: str) -> bool:
        return sha256 in self.world.blobs

    async def delete(self, sha256: str) -> None:
        self.world.blobs.pop(sha256, None)


class Passages:
    """Every document of the business unit is one passage, whatever was asked."""

    generation = "1"

    def __init__(self, world: World) -> None:
        self.world = world

    async def search(self, query: Query) -> Sequence[Hit]:
        self.world.check("postgres")
        return [
            Hit(
                passage_id=f"p-{d.id}",
                document_id=d.id,
                document=d.name,
                collection=d.collection,
                title=None,
                headings=(),
                page=None,
                start=0,
                end=len(TEXT),
                language="en",
                text=TEXT,
                score=0.9,
                dense=0.9,
                lexical=9.0,
            )
            for d in self.world.documents.values()
            if d.bu == query.bu and query.collection in {None, d.collection}
        ]


class Embedder:
    name, dimension, languages = "all-MiniLM-L6-v2", 384, frozenset({"en"})

    async def embed(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), 384), np.float32) / np.sqrt(np.float32(384))

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class Ledger:
    def __init__(self, world: World) -> None:
        self.world = world

    async def append(self, event: Any) -> None:
        self.world.check("ledger")
        self.world.booked.append(event)

    async def book(self, events: Sequence[CostEvent], *, epoch: str | None) -> int:
        for event in events:
            await self.append(event)
        return len(events)

    async def uncounted(self, *, limit: int) -> Sequence[CostEvent]:
        return []


class Money(MemoryMoney):
    def __init__(self, world: World) -> None:
        self.world = world
        super().__init__(world.env, safe=world.safe)

    def _reached(self) -> Safe:
        self.world.check("redis")
        return super()._reached()


class Queue:
    def __init__(self, world: World) -> None:
        self.world = world

    async def nudge(self, queue: str) -> None:
        self.world.nudges.append(queue)


def _key(bu: str, *, revoked: bool = False) -> ApiKey:
    return ApiKey(id=f"k-{bu}", bu=bu, name="test", prefix="plt_", created_at=NOW, revoked_at=NOW if revoked else None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    plan = derive(default())
    env = replace(plan.env("dev"), max_file_bytes=200_000)
    made = World(plan, env, tmp_path)
    made.keys = {"north": _key("north"), "south": _key("south"), "gone": _key("north", revoked=True)}
    return made


@pytest.fixture
def app(world: World) -> FastAPI:
    meter = PrometheusMeter(world.plan, world.env)
    money = Money(world)
    deps = Deps(
        embedder=Embedder(),  # type: ignore[arg-type]
        generators={},
        reranker=None,
        blobs=Blobs(world),  # type: ignore[arg-type]
        parser=SimpleNamespace(),
        generation=cast("Any", None),
        generations=cast("Any", None),
        passages=Passages(world),
        documents=Documents(world),  # type: ignore[arg-type]
        backlog=Backlog(world),  # type: ignore[arg-type]
        source_items=cast("Any", None),
        keys=Keys(world),  # type: ignore[arg-type]
        ledger=Ledger(world),  # type: ignore[arg-type]
        admission=money,
        cache=money,
        outbox=money,
        pace=cast("Any", None),
        guards=cast("Any", None),
        releases=cast("Any", None),
        splits=cast("Any", None),
        measures=cast("Any", None),
        evaluations=cast("Any", None),
        feedback=MemoryFeedback(lambda: world.in_ledger, world.index),
        queue=Queue(world),
        meter=meter,
        instance="test",
    )

    async def redis() -> None:
        world.check("redis")

    probes = {"postgres": deps.backlog.waiting, "redis": redis, "model": lambda: deps.embedder.embed(["ready"])}
    return create_app(
        world.plan,
        world.env,
        Service(plan=world.plan, env=world.env, deps=deps, probes=probes, exposition=meter.exposition, spool=world.spool),
    )


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, headers={"authorization": "Bearer north"}, raise_server_exceptions=True) as opened:
        yield opened


@pytest.fixture
def stored(client: TestClient) -> str:
    """The id of one document of business unit `north`."""
    sent = client.post("/v1/documents", files={"file": ("keys.md", b"# Keys\n" + TEXT.encode(), "text/markdown")})
    assert sent.status_code == 202, sent.text
    return str(sent.json()["documents"][0]["id"])


@pytest.fixture
def written_by(app: FastAPI) -> Callable[..., ScriptedGenerator]:
    """To let a model write the answers, in an env that is changed so."""

    def write(writer: ScriptedGenerator, **changed: Any) -> ScriptedGenerator:
        state = app.state
        state.env = replace(state.env, llm=Llm(model=writer.model, provider=writer.provider), **changed)
        state.service = replace(state.service, deps=replace(state.service.deps, generators={writer.model: writer}))
        return writer

    return write
