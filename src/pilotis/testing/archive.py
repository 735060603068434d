"""Fakes for snapshots: an archive of files in memory, and a database that is a dictionary of tables."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from pilotis.errors import Conflict, NotFound, Permanent
from pilotis.ports.archive import LedgerSum, Standing, Table, Tell


class MemoryArchive:
    """Files by name."""

    where = "memory"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def put(self, name: str, content: AsyncIterable[bytes]) -> None:
        self.files[name] = b"".join([chunk async for chunk in content])

    async def get(self, name: str) -> AsyncIterator[bytes]:
        if name not in self.files:
            raise NotFound(f"{name} is not in memory", remedy="see: pilotis snapshot verify")
        yield self.files[name]

    async def sizes(self, under: str) -> Mapping[str, int]:
        is_folder = not under or under.endswith("/")
        return {
            name: len(content)
            for name, content in self.files.items()
            if (name.startswith(under) if is_folder else name == under)
        }

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self.files.pop(name, None)


@dataclass(slots=True)
class MemoryDump:
    """Rows are texts without newlines; `documents` are SHA-256 and size of their bytes."""

    tables: dict[str, list[str]] = field(default_factory=dict)
    documents: list[tuple[str, int]] = field(default_factory=list)
    ledger: LedgerSum = field(default_factory=lambda: LedgerSum(events=0, micro=0, cost_eur=Decimal(0)))
    at: datetime = datetime(2026, 7, 14, 3, tzinfo=UTC)
    is_read: bool = False

    async def standing(self) -> Standing:
        return Standing(
            schema="0001", rows={name: len(rows) for name, rows in self.tables.items()}, ledger=self.ledger, others=0
        )

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[MemoryReading]:
        if self.is_read:
            raise Conflict("a snapshot of this database is being taken or restored", remedy="wait until that is done")
        self.is_read = True
        try:
            yield MemoryReading(self)
        finally:
            self.is_read = False

    @asynccontextmanager
    async def writing(self, *, schema: str) -> AsyncIterator[MemoryWriting]:
        yield MemoryWriting(self, schema)

    async def count(self, content: AsyncIterable[bytes]) -> int:
        return len(await _lines(content))


class MemoryReading:
    """A copy, made when it is opened."""

    schema = "0001"

    def __init__(self, of: MemoryDump) -> None:
        self._rows = {name: list(rows) for name, rows in of.tables.items()}
        self._documents = list(of.documents)
        self.at, self.ledger = of.at, of.ledger
        self.tables: Sequence[Table] = [Table(name=name, columns=("line",)) for name in sorted(self._rows)]
        self.indexes: Mapping[str, str] = {}
        self.sequences: Mapping[str, int] = {}

    async def copy(self, table: Table) -> AsyncIterator[bytes]:
        for row in self._rows[table.name]:
            yield f"{row}\n".encode()

    def rows(self, table: Table) -> int:
        return len(self._rows[table.name])

    async def blobs(self) -> Sequence[tuple[str, int]]:
        return self._documents

    async def let_go(self) -> None:
        """It is a copy."""

    async def assure(self) -> None:
        """Nobody deletes here."""


class MemoryWriting:
    """Seen by nobody until `commit`."""

    def __init__(self, of: MemoryDump, schema: str) -> None:
        self._of, self._schema = of, schema
        self._rows: dict[str, list[str]] = {}

    async def load(self, table: Table, content: AsyncIterable[bytes]) -> int:
        self._rows[table.name] = await _lines(content)
        return len(self._rows[table.name])

    async def finish(self, indexes: Mapping[str, str], sequences: Mapping[str, int], *, tell: Tell) -> None:
        """Nothing to make."""

    async def ledger(self) -> LedgerSum:
        micro = [int(row) for row in self._rows.get("ledger", [])]
        return LedgerSum(events=len(micro), micro=sum(micro), cost_eur=Decimal(sum(micro)) / 1_000_000)

    async def commit(self) -> None:
        self._of.tables, self._of.ledger = self._rows, await self.ledger()


async def _lines(content: AsyncIterable[bytes]) -> list[str]:
    text = b"".join([chunk async for chunk in content]).decode()
    if text and not text.endswith("\n"):
        raise Permanent("a table's rows are cut off")
    return text.splitlines()
