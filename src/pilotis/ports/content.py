"""Documents, passages and the bytes behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotis.ports.backlog import Nudged
from pilotis.rag.passage import Cut, Parsed

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
    failed_in: State | None
    """At which step it failed, the last time it did."""
    attempts: int
    passages: int
    pages: int | None
    title: str | None
    language: str | None
    received_at: datetime
    indexed_at: datetime | None
    warnings: tuple[str, ...] = ()
    """What was left out or had to be guessed when it was read, such as pages without text."""


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


class Blobs(Protocol):
    """Bytes under their SHA-256, durable once `put` returns."""

    @property
    def where(self) -> str:
        """For people: the folder, or the bucket."""
        ...

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

    async def check(self, sha256: str) -> Literal["whole", "damaged", "missing"]:
        """Read it all and see whether it is what its name says."""
        ...

    async def settled(self, *, older_than_s: float) -> Sequence[str]:
        """Digests that were put that long ago and for which `settle` was called."""
        ...

    async def delete(self, sha256: str) -> None: ...


class Parser(Protocol):
    """Reads a file of any format, in a process of its own, bounded in time and memory.

    Raises Permanent with a reason a person understands where the file cannot be read.
    """

    async def parse(self, path: Path, *, name: str, media_type: str) -> Parsed: ...

    async def close(self) -> None: ...


class Passages(Protocol):
    """The index: searched online, written by `Documents.publish` in one transaction."""

    generation: str
    """Which vectors and which analysis it searches: what was found in one generation says nothing of another."""

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
        """Take a document that waits to be parsed, or None: the oldest of the business unit that has waited longest for its turn."""
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
        """Take passages that wait for their vectors, shared among business units; for `lease_s` seconds nobody else gets them."""
        ...

    async def postpone(self, waiting: Sequence[Pending], reason: str) -> None:
        """Give passages back because no vectors can be had now: their business units' documents in `embedding` tell `reason` until some come."""
        ...

    async def publish(self, embedded: Sequence[tuple[Pending, NDArray[np.float32]]]) -> Sequence[str]:
        """Store vectors; make documents whose last vector this was visible, each in one transaction; return their ids.

        With an empty sequence: publish whatever is complete and was left so by a crash or because no passage needed a new vector.
        """
        ...

    async def to_purge(self, *, limit: int = 1000) -> Sequence[tuple[int, str, str]]:
        """Documents that were deleted or whose content changed, oldest first: a number, the business unit, the document's id.

        Written in the transaction of the change: what was made from them must go, whoever dies meanwhile.
        """
        ...

    async def purged(self, numbers: Sequence[int]) -> None: ...


class Queue(Protocol):
    """Wakes the workers of a queue. A lost message costs time, never a document."""

    async def nudge(self, queue: Nudged) -> None: ...
