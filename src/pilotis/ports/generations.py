"""Index generations: what made the vectors and passages that are searched, and those that stand beside, older or to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotis.ports.content import Document, Documents, Passages
from pilotis.rag.passage import Cut, Parsed

GenerationState = Literal["active", "building", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One embedding model, one dimension, one way to cut passages."""

    id: int
    model: str
    dimension: int
    state: GenerationState = "active"
    embedder: Mapping[str, Any] | None = None
    """The fields of `derive.plan.Embedding` that reach the model; None where the contract's is meant."""
    passage_tokens: int | None = None
    passage_overlap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a generation stands. `left` are documents that are indexed and not in it as they are now."""

    generation: Generation
    passages: int
    left: int
    failed: int
    """Documents that could not be read or embedded for it: they are not found there."""
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None


class Generations(Protocol):
    """All of them; one is active, and searched."""

    async def active(self) -> Generation: ...

    async def all(self) -> Sequence[Standing]:
        """Newest first."""
        ...

    async def create(self, wanted: Generation) -> Generation:
        """Begin one beside the active one; its `id` and `state` are given here."""
        ...

    async def characters(self) -> int:
        """How long the texts are together that the active one has embedded."""
        ...

    async def left(self, generation: Generation, *, limit: int) -> Sequence[tuple[Document, int]]:
        """Documents that are to be put into it, with their version."""
        ...

    async def put(
        self,
        generation: Generation,
        document: Document,
        version: int,
        parsed: Parsed,
        embedded: Sequence[tuple[Cut, NDArray[np.float32]]],
    ) -> bool:
        """Take a document's passages in, all or nothing, in place of those of an earlier version. False where it changed meanwhile."""
        ...

    async def fail(self, generation: Generation, document: Document, version: int, error: str) -> None: ...

    async def failures(self, generation: Generation, *, limit: int = 100) -> Sequence[tuple[Document, str]]: ...

    async def activate(self, generation: Generation) -> None:
        """Search this one from now on, and keep the one before. Raises Conflict where documents are left to be put into it."""
        ...

    async def drop(self, generation: Generation) -> None:
        """Remove it with its passages and vectors, and free the room. Raises Conflict for the active one."""
        ...

    def index(self, generation: Generation) -> tuple[Passages, Documents]:
        """Its search, and the documents that are published into it."""
        ...
