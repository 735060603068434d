"""Snapshots: where they live, and the tables they are made of."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

Tell = Callable[[str, int, int], None]
"""What is being done, how many are done, of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table and its columns that hold data of their own: generated ones are left out."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSum:
    """The whole ledger in three figures. `micro` are micro-euros as budgets count them, every event rounded up by itself."""

    events: int
    micro: int
    cost_eur: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a database holds at present."""

    schema: str | None
    """None before the first migration."""
    rows: Mapping[str, int]
    """Of each table."""
    ledger: LedgerSum
    others: int
    """Connections of other programs."""


class Archive(Protocol):
    """Files by name, each of which appears whole or not at all. Names are relative, with `/` between their parts."""

    @property
    def where(self) -> str:
        """The place in words, without secrets."""
        ...

    async def put(self, name: str, content: AsyncIterable[bytes]) -> None:
        """Durable once it returns; takes the place of what had that name. Raises Transient where the store has no room or is away."""
        ...

    def get(self, name: str) -> AsyncIterator[bytes]:
        """Some MiB at a time. Raises NotFound at the first, Transient where the store is away."""
        ...

    async def sizes(self, under: str) -> Mapping[str, int]:
        """Bytes of the file of that name or, where it ends with `/` or is empty, of each file below it."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """What is not there is no error."""
        ...


class Reading(Protocol):
    """The database as it was at one moment, however long it takes to read.

    From before that moment until the end of the block no stored bytes of a document are deleted.
    """

    @property
    def at(self) -> datetime: ...

    @property
    def schema(self) -> str: ...

    @property
    def tables(self) -> Sequence[Table]:
        """All there are, by name."""
        ...

    @property
    def indexes(self) -> Mapping[str, str]:
        """Definitions by name, of those that no constraint brings along."""
        ...

    @property
    def sequences(self) -> Mapping[str, int]:
        """The last number each gave, by `table.column`; one that gave none is left out."""
        ...

    @property
    def ledger(self) -> LedgerSum: ...

    def copy(self, table: Table) -> AsyncIterator[bytes]:
        """Its rows, in the database's own binary form."""
        ...

    def rows(self, table: Table) -> int:
        """How many there were, once `copy` has come to its end."""
        ...

    async def blobs(self) -> Sequence[tuple[str, int]]:
        """SHA-256 and size of the bytes of every document."""
        ...

    async def let_go(self) -> None:
        """The moment may pass: nothing more is read from it. Bytes are still not deleted."""
        ...

    async def assure(self) -> None:
        """Raises Transient where bytes may have been deleted meanwhile."""
        ...


class Writing(Protocol):
    """A database being made anew, in one transaction: until `commit` everybody else sees what was."""

    async def load(self, table: Table, content: AsyncIterable[bytes]) -> int:
        """Rows as `Reading.copy` gave them; how many they were. Raises Permanent where the table is not there, or others."""
        ...

    async def finish(self, indexes: Mapping[str, str], sequences: Mapping[str, int], *, tell: Tell) -> None:
        """Indexes, constraints, numbers and statistics; then what later migrations do."""
        ...

    async def ledger(self) -> LedgerSum: ...

    async def commit(self) -> None: ...


class Dump(Protocol):
    """All the tables of one database."""

    async def standing(self) -> Standing:
        """Raises Permanent where the database is too damaged to tell."""
        ...

    def reading(self) -> AbstractAsyncContextManager[Reading]:
        """Raises Conflict where somebody else reads so already."""
        ...

    def writing(self, *, schema: str) -> AbstractAsyncContextManager[Writing]:
        """Empty tables of that schema. Raises SetupError where it is newer than this version knows, Conflict where others are connected."""
        ...

    async def count(self, content: AsyncIterable[bytes]) -> int:
        """How many rows `Reading.copy` gave, without a database. Raises Permanent where they are cut off or are none."""
        ...
