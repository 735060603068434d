"""Fakes of what the batch plane asks for: documents with versions, leases, drafts and swaps, blobs, a parser, a queue."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from pilotis.errors import NotFound
from pilotis.ports import EVERYBODY, Claim, Document, Hit, NewDocument, Pause, Pending, State, WorkQueue
from pilotis.rag.passage import Cut, Parsed, embedded_text
from pilotis.testing.online import Entry, MemoryPassages


@dataclass(slots=True)
class Draft:
    cut: Cut
    text: str
    vector: NDArray[np.float32] | None = None
    claimed_until: float = 0.0


@dataclass(slots=True)
class Row:
    document: Document
    version: int = 1
    deaths: int = 0
    staged: dict[str, object] = field(default_factory=dict)
    next_try: float = field(default_factory=time.monotonic)
    lease_until: float = 0.0
    drafts: list[Draft] = field(default_factory=list)

    def set(self, **changes: object) -> None:
        self.document = replace(self.document, **changes)  # type: ignore[arg-type]  # names and types are the record's


class MemoryDocuments:
    """Rows in a dictionary. Nothing is awaited inside, so every verb is one transaction. Publishes into `passages`."""

    def __init__(self, passages: MemoryPassages | None = None) -> None:
        self.passages = passages or MemoryPassages()
        self.rows: dict[str, Row] = {}
        self._blobs: set[str] = set()
        self._purge: dict[int, tuple[str, str]] = {}
        self._turns: dict[tuple[str, str], int] = {}
        self.pauses: dict[tuple[WorkQueue, str], Pause] = {}

    async def register(self, document: NewDocument) -> tuple[Document, bool]:
        self._blobs.add(document.sha256)
        key = (document.bu, document.collection, document.name)
        row = next((row for row in self.rows.values() if _key(row.document) == key), None)
        if row is None:
            row = Row(_received(document))
            self.rows[row.document.id] = row
            return row.document, True
        old = row.document
        if (old.sha256, old.metadata) == (document.sha256, document.metadata) and old.state != "failed":
            return old, False
        fresh = _received(document)
        kept = {
            "id": old.id,
            "passages": old.passages,
            "title": old.title,
            "language": old.language,
            "pages": old.pages,
            "warnings": old.warnings,
        }
        row.document = replace(fresh, **kept, indexed_at=old.indexed_at)  # type: ignore[arg-type]
        row.version += 1
        row.deaths, row.staged = 0, {}
        row.drafts, row.next_try, row.lease_until = [], time.monotonic(), 0.0
        return row.document, True

    async def get(self, bu: str, document_id: str) -> Document:
        return self._row(bu, document_id).document

    async def find(
        self, bu: str, *, collection: str | None = None, state: State | None = None, limit: int = 100, after: str | None = None
    ) -> Sequence[Document]:
        def order(document: Document) -> tuple[datetime, str]:
            return document.received_at, document.id

        last = None if after is None else order(await self.get(bu, after))
        found = [
            document
            for document in sorted(self._of(bu), key=order, reverse=True)
            if collection in {None, document.collection}
            and state in {None, document.state}
            and (last is None or order(document) < last)
        ]
        return found[:limit]

    async def collections(self, bu: str) -> Mapping[str, int]:
        return dict(sorted(Counter(document.collection for document in self._of(bu)).items()))

    async def counts(self, bu: str, ids: Sequence[str] | None = None) -> Mapping[State, int]:
        return dict(Counter(document.state for document in self._of(bu) if ids is None or document.id in ids))

    async def delete(self, bu: str, document_id: str) -> None:
        row = self._row(bu, document_id)
        del self.rows[row.document.id]
        self._hide(row.document.id)
        self._note(row)

    def all(self) -> list[Document]:
        """Of every business unit."""
        return [row.document for row in self.rows.values()]

    def rename(self, bu: str, document_id: str, name: str, *, media_type: str) -> bool:
        """What `SourceItems.move` does to a document."""
        row = self.rows.get(document_id)
        if row is None or row.document.bu != bu:
            return False
        if row.document.media_type != media_type:
            row.set(media_type=media_type, state="received", error=None, attempts=0)
            row.version += 1
            row.staged, row.drafts, row.next_try, row.lease_until = {}, [], time.monotonic(), 0.0
        row.set(name=name)
        self.passages.entries = [
            replace(entry, hit=replace(entry.hit, document=name)) if entry.hit.document_id == document_id else entry
            for entry in self.passages.entries
        ]
        self._note(row)
        return True

    async def adopt(self, digests: Sequence[str]) -> None:
        self._blobs.update(digests)

    async def reclaim(self, drop: Callable[[str], Awaitable[None]]) -> int:
        unreferenced = self._blobs - {row.document.sha256 for row in self.rows.values()}
        for sha256 in unreferenced:
            await drop(sha256)
        self._blobs -= unreferenced
        return len(unreferenced)

    async def claim(self, *, lease_s: float) -> Claim | None:
        now = time.monotonic()
        free = [
            row
            for row in self.rows.values()
            if row.document.state in {"received", "parsing"} and row.next_try <= now and row.lease_until < now
            if not self._rests("ingest", row.document.bu)
        ]
        if not free:
            return None
        row = min(free, key=lambda row: (self._turn("ingest", row.document.bu), row.next_try, row.document.id))
        self._served("ingest", row.document.bu)
        row.deaths += row.document.state == "parsing"
        row.set(state="parsing", attempts=row.document.attempts + 1)
        row.lease_until = now + lease_s
        return Claim(document=row.document, version=row.version, deaths=row.deaths)

    async def renew(self, claim: Claim, *, lease_s: float) -> None:
        row = self._current(claim.document.id, claim.version, "parsing")
        if row and row.document.attempts == claim.document.attempts:
            row.lease_until = time.monotonic() + lease_s

    async def stage(self, claim: Claim, parsed: Parsed, cuts: Sequence[Cut]) -> None:
        row = self._current(claim.document.id, claim.version, "parsing")
        if row is None:
            return
        known = {
            (entry.hit.passage_id, embedded_text(entry.hit.title, entry.hit.headings, entry.hit.text)): entry.vector
            for entry in self.passages.entries
        }
        texts = [(cut, embedded_text(parsed.title, cut.headings, cut.text)) for cut in cuts]
        row.drafts = [Draft(cut, text, known.get((cut.id, text))) for cut, text in texts]
        sizes: Counter[str] = Counter()
        for cut in cuts:
            sizes[cut.language] += len(cut.text)
        language = sizes.most_common(1)[0][0] if sizes else None
        row.set(state="embedding", error=None)
        row.staged = {
            "title": parsed.title,
            "language": language,
            "pages": len(parsed.page_starts) or None,
            "warnings": parsed.warnings,
        }
        row.lease_until = 0.0

    async def fail(self, document_id: str, version: int, error: str, *, retry_in_s: float | None = None) -> None:
        row = self._current(document_id, version, "received", "parsing", "embedding")
        if row is None:
            return
        step = row.document.state
        row.set(state="failed" if retry_in_s is None else "received", error=error.replace("\0", "")[:2000], failed_in=step)
        row.next_try, row.lease_until, row.drafts = time.monotonic() + (retry_in_s or 0), 0.0, []

    async def pending(self, limit: int, *, lease_s: float) -> Sequence[Pending]:
        now = time.monotonic()
        units: dict[str, list[tuple[Row, Draft]]] = {}
        for row, draft in self._drafts():
            if draft.vector is None and draft.claimed_until < now and not self._rests("embed", row.document.bu):
                units.setdefault(row.document.bu, []).append((row, draft))
        turns = [units[bu] for bu in sorted(units, key=lambda bu: self._turn("embed", bu))]
        free = [one for shared in zip_longest(*turns) for one in shared if one][:limit]
        for row, draft in free:
            draft.claimed_until = now + lease_s
            self._served("embed", row.document.bu)
        return [
            Pending(
                passage_id=draft.cut.id,
                document_id=row.document.id,
                version=row.version,
                bu=row.document.bu,
                text=draft.text,
            )
            for row, draft in free
        ]

    async def postpone(self, waiting: Sequence[Pending], reason: str) -> None:
        given_back = {(pending.document_id, pending.version, pending.passage_id) for pending in waiting}
        for row, draft in self._drafts():
            if (row.document.id, row.version, draft.cut.id) in given_back:
                draft.claimed_until = 0.0
        self._remark(reason.replace("\0", "")[:2000], {pending.bu for pending in waiting})

    async def publish(self, embedded: Sequence[tuple[Pending, NDArray[np.float32]]]) -> Sequence[str]:
        vectors = {(pending.document_id, pending.version, pending.passage_id): vector for pending, vector in embedded}
        for row, draft in self._drafts():
            draft.vector = vectors.get((row.document.id, row.version, draft.cut.id), draft.vector)
        if vectors:
            self._remark(None, {pending.bu for pending, _ in embedded})
        named = {pending.document_id for pending, _ in embedded} or self.rows.keys()
        complete = [
            row
            for identity, row in self.rows.items()
            if identity in named and row.document.state == "embedding" and all(draft.vector is not None for draft in row.drafts)
        ]
        for row in complete:
            self._swap(row)
            self._note(row)
        return [row.document.id for row in complete]

    async def to_purge(self, *, limit: int = 1000) -> Sequence[tuple[int, str, str]]:
        return [(n, bu, document_id) for n, (bu, document_id) in list(self._purge.items())[:limit]]

    async def purged(self, numbers: Sequence[int]) -> None:
        for n in numbers:
            self._purge.pop(n, None)

    def _note(self, row: Row) -> None:
        self._purge[max(self._purge, default=0) + 1] = (row.document.bu, row.document.id)

    def _row(self, bu: str, document_id: str) -> Row:
        row = self.rows.get(document_id)
        if row is None or row.document.bu != bu:
            raise NotFound(f"there is no document {document_id!r}", remedy="list them with GET /v1/documents")
        return row

    def _of(self, bu: str) -> list[Document]:
        return [row.document for row in self.rows.values() if row.document.bu == bu]

    def _current(self, document_id: str, version: int, *states: State) -> Row | None:
        row = self.rows.get(document_id)
        return row if row and row.version == version and row.document.state in states else None

    def _drafts(self) -> Iterator[tuple[Row, Draft]]:
        return ((row, draft) for row in self.rows.values() for draft in row.drafts)

    def _rests(self, queue: WorkQueue, bu: str) -> bool:
        now = datetime.now(UTC)
        return any(pause and pause.until > now for pause in (self.pauses.get((queue, one)) for one in (bu, EVERYBODY)))

    def _turn(self, queue: WorkQueue, bu: str) -> int:
        return self._turns.get((queue, bu), 0)

    def _served(self, queue: WorkQueue, bu: str) -> None:
        self._turns[queue, bu] = max(self._turns.values(), default=0) + 1

    def _remark(self, error: str | None, bus: set[str]) -> None:
        for row in self.rows.values():
            if row.document.state == "embedding" and row.document.bu in bus:
                row.set(error=error)

    def _hide(self, document_id: str) -> None:
        self.passages.entries = [entry for entry in self.passages.entries if entry.hit.document_id != document_id]

    def _swap(self, row: Row) -> None:
        self._hide(row.document.id)
        row.set(**row.staged)
        self.passages.entries += [_entry(row.document, draft) for draft in row.drafts]
        row.set(state="indexed", error=None, indexed_at=datetime.now(UTC), passages=len(row.drafts))
        row.drafts = []


class TextParser:
    """Takes a file as the text it is; its title is the first Markdown heading. Fails for a name as it was told to."""

    def __init__(self, **failures: Exception) -> None:
        self.failures: dict[str, Exception] = failures
        self.parsed: list[str] = []
        self.media_types: dict[str, str] = {}

    async def parse(self, path: Path, *, name: str, media_type: str) -> Parsed:
        self.parsed.append(name)
        self.media_types[name] = media_type
        if name in self.failures:
            raise self.failures[name]
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
        title = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), None)
        return Parsed(text=text, title=title)

    async def close(self) -> None:
        """Nothing to close."""


def _key(document: Document) -> tuple[str, str, str]:
    return document.bu, document.collection, document.name


def _received(document: NewDocument) -> Document:
    return Document(
        id=str(uuid4()),
        bu=document.bu,
        collection=document.collection,
        name=document.name,
        sha256=document.sha256,
        size=document.size,
        media_type=document.media_type,
        metadata=dict(document.metadata),
        state="received",
        error=None,
        failed_in=None,
        attempts=0,
        passages=0,
        pages=None,
        title=None,
        language=None,
        received_at=datetime.now(UTC),
        indexed_at=None,
    )


def _entry(document: Document, draft: Draft) -> Entry:
    assert draft.vector is not None
    cut = draft.cut
    hit = Hit(
        passage_id=cut.id,
        document_id=document.id,
        document=document.name,
        collection=document.collection,
        title=document.title,
        headings=cut.headings,
        page=cut.page,
        start=cut.start,
        end=cut.end,
        language=cut.language,
        text=cut.text,
        score=0.0,
        dense=0.0,
        lexical=0.0,
    )
    return Entry(bu=document.bu, hit=hit, vector=draft.vector, metadata=dict(document.metadata))
