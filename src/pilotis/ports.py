"""What we ask of the world: small protocols named by role, the records they exchange, and `Deps` that holds one of each.

No logic lives here. Adapters implement these against one technology each; `testing.py` implements them in memory;
one conformance suite runs over both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotis.derive.cost import Usage
from pilotis.rag.passage import Cut, Parsed
from pilotis.rag.prompt import Prompt

Vectors = NDArray[np.float32]
"""Shape (texts, dimension), rows of unit length."""

State = Literal["received", "parsing", "embedding", "indexed", "failed"]
"""Where a document stands. `indexed` and `failed` are final until its content changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document as its row tells it."""

    id: str
    bu: str
    collection: str
    name: str
    sha256: str
    size: int
    media_type: str
    metadata: Mapping[str, Any]
    state: State
    error: str | None
    """Why it failed or, in any other state, what it waits for."""
    attempts: int
    passages: int
    pages: int | None
    title: str | None
    language: str | None
    received_at: datetime
    indexed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document on its way in: its bytes are already stored under their digest."""

    bu: str
    collection: str
    name: str
    sha256: str
    size: int
    media_type: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that search found. `start` and `end` are character offsets into the document's extracted text."""

    passage_id: str
    document_id: str
    document: str
    collection: str
    title: str | None
    headings: tuple[str, ...]
    page: int | None
    start: int
    end: int
    language: str
    text: str
    score: float
    dense: float
    """Cosine similarity with the question, 0 where the search was lexical only."""
    lexical: float
    """BM25 score, 0 where no term of the question occurs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One search, complete: what the store needs to answer in one statement."""

    bu: str
    text: str
    language: str
    vector: NDArray[np.float32] | None
    top_k: int
    collection: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    dense_weight: float = 0.5
    """Share of the dense score in the fusion, from 0 (lexical only) to 1 (dense only); see `rag.ranking`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEvent:
    """One line of the ledger. `id` makes settling twice harmless."""

    id: str
    at: datetime
    env: str
    plane: Literal["online", "batch"]
    bu: str
    kind: Literal["answer", "search", "ingest"]
    subject: str
    """The answer or the document that was paid for."""
    model: str
    usage: Mapping[str, Any]
    cost_eur: Decimal
    price_book: str
    fx: Mapping[str, Any] | None
    priced: bool
    """False where no price was known: `cost_eur` is then the part that could be priced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key without its secret, which is shown once and stored as a SHA-256."""

    id: str
    bu: str
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A document taken by a worker, until `lease_s` runs out."""

    document: Document
    version: int
    deaths: int = 0
    """How many workers ended with it in their hands, without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A passage that waits for its vector."""

    passage_id: str
    document_id: str
    version: int
    bu: str
    text: str
    """What is embedded: title and headings, then the passage."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    name: str
    dimension: int
    languages: frozenset[str] | None
    """ISO 639-1 codes the model was trained on; None where it claims all of them."""

    async def embed(self, texts: Sequence[str]) -> Vectors: ...

    def count_tokens(self, text: str) -> int: ...

    async def close(self) -> None: ...


class Generator(Protocol):
    """Writes an answer from a prompt, piece by piece; the last item is its usage."""

    model: str
    provider: str

    def generate(self, prompt: Prompt, *, max_tokens: int) -> AsyncIterator[str | Usage]: ...

    async def close(self) -> None: ...


class Reranker(Protocol):
    """Scores passages against a question, higher is better."""

    model: str

    async def rerank(self, question: str, passages: Sequence[str]) -> Sequence[float]: ...

    async def close(self) -> None: ...


class Blobs(Protocol):
    """Bytes under their SHA-256, durable once `put` returns."""

    async def put(self, content: Path) -> tuple[str, int]:
        """Store the file's bytes; return its SHA-256 (hex) and its size. The source file is left alone.

        New bytes are unsettled until `settle` says that a document refers to them.
        """
        ...

    async def settle(self, sha256: str) -> None: ...

    async def unsettled(self, *, older_than_s: float) -> Sequence[str]:
        """Digests that were put that long ago and never settled: perhaps no document refers to them."""
        ...

    async def fetch(self, sha256: str, into: Path) -> None: ...

    async def exists(self, sha256: str) -> bool: ...

    async def delete(self, sha256: str) -> None: ...


class Parser(Protocol):
    """Reads a file of any format, in a process of its own, bounded in time and memory.

    Raises Permanent with a reason a person understands where the file cannot be read.
    """

    async def parse(self, path: Path, *, name: str, media_type: str) -> Parsed: ...

    async def close(self) -> None: ...


class Passages(Protocol):
    """The index: searched online, written by `Documents.publish` in one transaction."""

    async def search(self, query: Query) -> Sequence[Hit]: ...


class Documents(Protocol):
    """The rows that tell the truth about every document."""

    async def register(self, document: NewDocument) -> tuple[Document, bool]:
        """Store or update the row under (bu, collection, name); True where there is work to do."""
        ...

    async def get(self, bu: str, document_id: str) -> Document: ...

    async def find(
        self, bu: str, *, collection: str | None = None, state: State | None = None, limit: int = 100, after: str | None = None
    ) -> Sequence[Document]: ...

    async def collections(self, bu: str) -> Mapping[str, int]: ...

    async def counts(self, bu: str, ids: Sequence[str] | None = None) -> Mapping[State, int]: ...

    async def delete(self, bu: str, document_id: str) -> None:
        """Delete row, passages, vectors and counters in one transaction. Raises NotFound. `reclaim` then frees the bytes."""
        ...

    async def reclaim(self, drop: Callable[[str], Awaitable[None]]) -> int:
        """Call `drop` (that is `Blobs.delete`) on every digest no document refers to any more; return how many.

        Holds a lock against `register` meanwhile: after `register`, a caller checks `Blobs.exists` and stores the bytes again if not.
        """
        ...

    async def adopt(self, digests: Sequence[str]) -> None:
        """Know these digests, so that `reclaim` drops those no document refers to."""
        ...

    async def claim(self, *, lease_s: float) -> Claim | None:
        """Take the oldest document that waits to be parsed, or None."""
        ...

    async def renew(self, claim: Claim, *, lease_s: float) -> None:
        """Keep the claim for `lease_s` more seconds. Does nothing where it was lost."""
        ...

    async def stage(self, claim: Claim, parsed: Parsed, cuts: Sequence[Cut]) -> None:
        """Keep the passages aside until all their vectors are there. Does nothing where the document changed meanwhile."""
        ...

    async def fail(self, document_id: str, version: int, error: str, *, retry_in_s: float | None = None) -> None:
        """Record the error; with `retry_in_s` the document waits and is tried again."""
        ...

    async def pending(self, limit: int, *, lease_s: float) -> Sequence[Pending]:
        """Take passages that wait for their vectors; for `lease_s` seconds nobody else gets them."""
        ...

    async def postpone(self, waiting: Sequence[Pending], reason: str) -> None:
        """Give passages back because no vectors can be had now: each document in `embedding` tells `reason` until some come."""
        ...

    async def publish(self, embedded: Sequence[tuple[Pending, NDArray[np.float32]]]) -> Sequence[str]:
        """Store vectors; make documents whose last vector this was visible, each in one transaction; return their ids.

        With an empty sequence: publish whatever is complete and was left so by a crash or because no passage needed a new vector.
        """
        ...

    async def waiting(self) -> Mapping[str, int]:
        """How many documents wait for `ingest` and how many passages for `embed`."""
        ...


class Keys(Protocol):
    """API keys, bound to a business unit, hashed at rest."""

    async def create(self, bu: str, name: str) -> tuple[ApiKey, str]: ...

    async def resolve(self, secret: str) -> ApiKey:
        """Raises Unauthorised for a key that is unknown or revoked."""
        ...

    async def list(self, bu: str | None = None) -> Sequence[ApiKey]: ...

    async def revoke(self, key_id: str) -> ApiKey: ...


class Ledger(Protocol):
    """The append-only record of every cost."""

    async def append(self, event: CostEvent) -> None: ...

    async def total(self, *, bu: str | None = None, since: datetime | None = None) -> tuple[int, Decimal]:
        """Number of events and euros."""
        ...


class Queue(Protocol):
    """Wakes the workers of a queue. A lost message costs time, never a document."""

    async def nudge(self, queue: Literal["ingest", "embed"]) -> None: ...


class Meter(Protocol):
    """Counts and times what happens; names are those of `derive.names`."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """One of each, opened and closed by `wiring`."""

    embedder: Embedder
    generator: Generator | None
    """None where the answer is extractive."""
    reranker: Reranker | None
    blobs: Blobs
    parser: Parser
    passages: Passages
    documents: Documents
    keys: Keys
    ledger: Ledger
    queue: Queue
    meter: Meter
