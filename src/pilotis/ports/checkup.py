"""What a thorough look at the stores asks of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pilotis.ports.content import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One question asked of all that is stored."""

    check: str
    """Which: a name of `batch.checkup.CHECKS`."""
    of: int
    """How many were looked at."""
    count: int
    """How many are not as they should be."""
    examples: tuple[str, ...] = ()
    """Some of them."""


class Inventory(Protocol):
    """The database, asked about itself. Each answer is of one moment."""

    def questions(self) -> Sequence[str]:
        """The names of what `ask` can be asked."""
        ...

    async def ask(self, check: str) -> Looked: ...

    async def blobs(self) -> Mapping[str, bool]:
        """Digests of the bytes it knows of, and whether a document refers to them; the others wait to be removed."""
        ...

    async def sample(self, count: int) -> Sequence[tuple[Query, str]]:
        """Passages chosen by chance: a search with the title of its document and its own vector, and its id, which must be found."""
        ...

    async def known(self, document_ids: Collection[str]) -> Collection[str]:
        """Those of these documents that are there, or are noted to be forgotten by the caches."""
        ...
