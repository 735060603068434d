"""Sources in memory: one to be listed and read, and the memory of what it brought."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pilotis.errors import Conflict, Invalid, NotFound
from pilotis.ports import Document, Fetched, Item, Known, Run, Unlisted
from pilotis.testing.batch import MemoryDocuments


class MemorySource:
    """Files by key. `read` is what was asked for; a key in `failures` cannot be had."""

    at_once = 2

    def __init__(self, **files: str) -> None:
        self.files: dict[str, bytes] = {key: text.encode() for key, text in files.items()}
        self.failures: dict[str, Exception] = {}
        self.unlisted: list[Unlisted] = []
        self.away: Exception | None = None
        self.trusted = True
        """Whether it gives validators."""
        self.read: list[str] = []
        self.closed = 0

    async def items(self) -> AsyncGenerator[Item | Unlisted, None]:
        if self.away:
            raise self.away
        for key, content in self.files.items():
            yield Item(key=key, size=len(content), validator=self._validator(key))
        for part in self.unlisted:
            yield part

    async def fetch(self, item: Item, into: Path, *, known: str | None, most_bytes: int) -> Fetched | None:
        self.read.append(item.key)
        if item.key in self.failures:
            raise self.failures[item.key]
        if item.key not in self.files:
            raise NotFound("it is gone")
        if known is not None and known == self._validator(item.key):
            return None
        if len(self.files[item.key]) > most_bytes:
            raise Invalid("is too large")
        into.write_bytes(self.files[item.key])
        return Fetched(validator=self._validator(item.key))

    async def close(self) -> None:
        self.closed += 1

    def _validator(self, key: str) -> str | None:
        return sha256(self.files[key]).hexdigest()[:8] if self.trusted else None


@dataclass(slots=True)
class _Run:
    holder: str
    lease_until: float | None
    began_at: datetime
    began: float
    finished_at: datetime | None = None
    succeeded: bool = True
    report: Mapping[str, Any] = field(default_factory=dict)


class MemorySourceItems:
    """Rows in a dictionary, beside the documents of a `MemoryDocuments`."""

    def __init__(self, documents: MemoryDocuments) -> None:
        self._documents = documents
        self._rows: dict[tuple[str, str, str], tuple[str, Known]] = {}
        self._runs: dict[str, _Run] = {}

    async def known(self, source: str) -> Sequence[Known]:
        mine = [known for owner, known in self._rows.values() if owner == source]
        return sorted((self._current(known) for known in mine), key=lambda known: known.key)

    async def begin(self, source: str, item: Known, *, sources: Collection[str]) -> Known:
        there = self._named(item)
        brought = there is None
        owner, old = self._rows.get(_place(item), (source, None))
        if old is not None:
            if (owner, old.key) != (source, item.key) and (owner == source or owner in sources):
                raise Conflict(f"source {owner} ({old.key!a}) brought a document of the same name, {item.name!a}")
            brought = brought or (old.brought and (old.sha256 is None or owner != source))
        kept = {"sha256": old.sha256, "document_id": old.document_id} if old is not None and owner != source else {}
        blank = Known(key=item.key, bu=item.bu, collection=item.collection, name=item.name, brought=brought, seen_at=_now())
        self._rows[_place(item)] = (source, replace(blank, **kept))  # type: ignore[arg-type]  # two optional texts
        return replace(blank, sha256=there.sha256 if there else None)

    async def keep(self, source: str, item: Known) -> None:
        if self._rows.get(_place(item), ("",))[0] == source:
            self._rows[_place(item)] = (source, replace(item, seen_at=_now()))

    async def seen(self, source: str, items: Sequence[Known]) -> None:
        for item in items:
            owner, old = self._rows.get(_place(item), ("", item))
            if owner == source:
                self._rows[_place(item)] = (source, replace(old, seen_at=_now()))

    async def move(self, source: str, old: Known, new: Known, *, media_type: str) -> bool:
        assert old.document_id
        if self._named(new) or _place(new) in self._rows:
            return False
        if not self._documents.rename(old.bu, old.document_id, new.name, media_type=media_type):
            return False
        _, row = self._rows.pop(_place(old))
        self._rows[_place(new)] = (
            source,
            replace(row, name=new.name, key=new.key, validator=new.validator, seen_at=_now()),
        )
        return True

    async def drop(self, source: str, item: Known) -> None:
        if self._rows.get(_place(item), ("",))[0] == source:
            del self._rows[_place(item)]

    async def lead(self, source: str, *, holder: str, lease_s: float, every_s: float | None = None) -> bool:
        now, run = time.monotonic(), self._runs.get(source)
        if run:
            if run.lease_until is not None and run.lease_until >= now:
                return False
            died = run.finished_at is None or run.finished_at < run.began_at
            wait_s = 0.0 if every_s is None else min(every_s, 60) if died else every_s if run.succeeded else min(every_s, 900)
            if now < run.began + wait_s:
                return False
        began = _Run(holder, now + lease_s, _now(), now)
        if run:
            began.finished_at, began.report = run.finished_at, run.report
        self._runs[source] = began
        return True

    async def renew(self, source: str, *, holder: str, lease_s: float) -> bool:
        run = self._runs.get(source)
        if run is None or run.holder != holder or run.lease_until is None:
            return False
        run.lease_until = time.monotonic() + lease_s
        return True

    async def finish(self, source: str, *, holder: str, report: Mapping[str, Any], succeeded: bool) -> None:
        run = self._runs.get(source)
        if run and run.holder == holder and run.lease_until is not None:
            run.lease_until, run.finished_at, run.report, run.succeeded = None, _now(), dict(report), succeeded

    async def runs(self) -> Sequence[Run]:
        found = []
        for name, run in sorted(self._runs.items()):
            ids = {known.document_id for owner, known in self._rows.values() if owner == name}
            states = Counter(row.state for row in self._documents.all() if row.id in ids)
            leads = run.lease_until is not None and run.lease_until > time.monotonic()
            found.append(
                Run(
                    source=name,
                    began_at=run.began_at,
                    finished_at=run.finished_at,
                    leads=leads,
                    report=run.report,
                    documents=dict(states),
                )
            )
        return found

    def _named(self, item: Known) -> Document | None:
        return next((row for row in self._documents.all() if (row.bu, row.collection, row.name) == _place(item)), None)

    def _current(self, known: Known) -> Known:
        there = next((row for row in self._documents.all() if row.id == known.document_id), None)
        if there is None and known.sha256 is None and known.brought:
            there = self._named(known)
        return replace(known, document_id=there.id if there else None, state=there.state if there else None)


def _place(item: Known) -> tuple[str, str, str]:
    return item.bu, item.collection, item.name


def _now() -> datetime:
    return datetime.now(UTC)
