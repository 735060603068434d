"""The road of a source: list -> compare -> receive what is new, move what was moved, forget what is gone -> report.

A row of `SourceItems` is written before a document is registered and completed afterwards: whatever is killed in between, the next run
knows whose document it is. Every verb may run twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

from pilotis.batch.difference import Comparison, Listing, compare, held_because, with_document
from pilotis.batch.ingest import forget, receive
from pilotis.batch.lead import kept, lead
from pilotis.batch.names import clean_name
from pilotis.batch.sync_report import Report, told
from pilotis.batch.wanted import is_wanted
from pilotis.derive.origin import Origin
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Invalid, NotFound, PilotisError, SetupError, Transient
from pilotis.ports import Deps, Fetched, Item, Known, Source, Unlisted

MOST_IN_A_ROW = 5
"""How many items may fail one after the other because something is away, before the run is given up."""
HEAD_BYTES = 8192
SEEN_AT_ONCE = 10_000
_VAGUE = frozenset({"text/plain", "application/octet-stream"})

Open = Callable[[Origin], Source]
Guess = Callable[[str, bytes], str]
"""From a file's name and its first 8 KiB to its media type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked of one run."""

    origin: Origin
    sources: Collection[str] = ()
    """The names of all sources of the contract."""
    full: bool = False
    """Read everything again, and offer it again: also what failed, and what was marked otherwise."""
    dry_run: bool = False
    """Read what has to be read to compare, and change nothing."""
    allow_deletes: bool = False
    """Delete also where a source has become empty or lacks more than half of what it brought."""
    only_if_due: bool = False


FINAL = frozenset({"indexed", "failed"})


def _nobody_waits(document_id: str, key: str) -> None:
    """For runs whose documents are indexed by whoever comes by."""


async def sync_due(plan: Plan, env: Env, deps: Deps, *, open_source: Open, guess: Guess) -> Sequence[Report]:
    """Synchronise every source whose time has come; safe to call every minute, from several processes at once.

    A call lasts for as long as the sources it finds due, one after the other, each at most its `max_s`. What goes wrong with one source
    is in its report. Raises Transient where Postgres is away.
    """
    origins = plan.sources_of(env.name)
    reports = []
    for origin in origins:
        if origin.every_s is not None:
            order = Order(origin=origin, sources=[each.name for each in plan.sources.values()], only_if_due=True)
            if report := await sync(order, env, deps, open_source=open_source, guess=guess):
                reports.append(report)
    return reports


async def sync(
    order: Order,
    env: Env,
    deps: Deps,
    *,
    open_source: Open,
    guess: Guess,
    report: Report | None = None,
    stored: Callable[[str, str], None] = _nobody_waits,
) -> Report | None:
    """Bring the documents of one source in step with it. `stored` is told id and key of each document that is not indexed yet.

    None where `only_if_due` is asked for and it is not, or another process has it. Raises Conflict where another one has it otherwise,
    Transient where Postgres is away. Anything that is the source's fault is in the report.
    """
    origin = order.origin
    report = report or Report(origin.name, dry_run=order.dry_run)
    journey = _Journey(order, env, deps, guess, report, stored)
    if order.dry_run:
        await _travel(journey, open_source)
        return report
    holder = f"{deps.instance}:{uuid4().hex[:12]}"
    if not await lead(origin, deps.source_items, holder=holder, only_if_due=order.only_if_due):
        return None
    try:
        async with kept(origin.name, deps.source_items, report, holder=holder):
            await _travel(journey, open_source)
    except BaseException:  # Ctrl-C among them: the row says that the run did not end
        report.error = report.error or "stopped"
        raise
    finally:
        report.end()
        with suppress(Transient):  # its lease runs out by itself
            done = report.error is None and not report.left
            await deps.source_items.finish(origin.name, holder=holder, report=report.record(), succeeded=done)
    return report


@dataclass(slots=True)
class _Journey:
    """One run under way."""

    order: Order
    env: Env
    deps: Deps
    guess: Guess
    report: Report
    stored: Callable[[str, str], None]
    ends: float = 0.0
    in_a_row: int = 0
    vanished: dict[str, Known] = field(default_factory=dict)
    """Listed, and found to be gone as it was read."""

    def __post_init__(self) -> None:
        self.ends = time.monotonic() + self.order.origin.max_s

    @property
    def is_over(self) -> bool:
        """The time, the bytes or the patience of this run are used up."""
        late = time.monotonic() >= self.ends or self.report.bytes >= self.order.origin.max_bytes
        return late or self.report.error is not None


async def _travel(journey: _Journey, open_source: Open) -> None:
    report = journey.report
    origin, items = journey.order.origin, journey.deps.source_items
    try:
        source = open_source(origin)
        try:
            listing = await _list(journey, source)
            brought = await items.known(origin.name)
            found = compare(listing, brought, origin, full=journey.order.full)
            report.listed = len(listing.items)
            report.counts["unchanged"] += len(found.unchanged)
            for known in found.unchanged:
                _wait_for(journey, known)
            if not journey.order.dry_run:
                for start in range(0, len(found.unchanged), SEEN_AT_ONCE):
                    await items.seen(origin.name, found.unchanged[start : start + SEEN_AT_ONCE])
            turns = iter(found.to_read)
            await asyncio.gather(*(_work(journey, source, found, turns) for _ in range(source.at_once)))
        finally:
            await source.close()
        await _forget_lost(journey, found, had=with_document(brought), listed=len(listing.items))
    except PilotisError as error:
        report.error = _said(error)
    finally:
        report.end()


async def _list(journey: _Journey, source: Source) -> Listing:
    origin, report = journey.order.origin, journey.report
    listing = Listing()
    try:
        async with asyncio.timeout(origin.max_s), aclosing(source.items()) as items:
            async for item in items:
                if isinstance(item, Unlisted):
                    listing.unlisted.append(item)
                elif item.unfit or not is_wanted(item.key, origin):
                    report.add("skipped", item.key, item.unfit or "")
                elif len(listing.items) == origin.max_files:
                    reason = (
                        f"it lists more than max_files = {origin.max_files}: raise it in the contract, or exclude something"
                    )
                    listing.unlisted.append(Unlisted(prefix="", reason=reason))
                    break
                else:
                    listing.items.setdefault(item.key, item)
    except TimeoutError as error:
        raise Transient(
            f"listing it took longer than max_s = {origin.max_s:.0f}", remedy="raise max_s in the contract"
        ) from error
    report.unlisted = [(told(part.prefix), told(part.reason)) for part in listing.unlisted]
    return listing


async def _work(journey: _Journey, source: Source, found: Comparison, turns: Iterator[Item]) -> None:
    for item in turns:
        if journey.is_over:
            journey.report.left += 1
            continue
        try:
            await _bring(journey, source, found, item)
        except Exception as error:  # it belongs to this item, a bug as well, and must not stop the others
            _failed(journey, found, item, error)
        else:
            journey.in_a_row = 0


def _failed(journey: _Journey, found: Comparison, item: Item, error: Exception) -> None:
    """What one item's failure means for the run."""
    if isinstance(error, TimeoutError) and time.monotonic() >= journey.ends:  # perhaps while a site wants to be left alone
        journey.report.left += 1
        return
    if isinstance(error, NotFound) and (known := found.known.get(item.key)):
        journey.vanished[item.key] = known
        return
    if isinstance(error, PilotisError):
        reason = _said(error)
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = f"unexpected {type(error).__name__}: {error}"
    journey.report.add("failed", item.key, reason)
    journey.in_a_row = journey.in_a_row + 1 if isinstance(error, Transient | SetupError) else 0
    if journey.in_a_row >= MOST_IN_A_ROW:
        journey.report.error = f"given up after {journey.in_a_row} in a row failed: {reason}"


async def _bring(journey: _Journey, source: Source, found: Comparison, item: Item) -> None:
    """Read one item, and take in what it holds where that is news."""
    order, known = journey.order, found.known.get(item.key)
    name = clean_name(item.key)
    if item.size is not None:
        _require_size(item.size, journey.env)
    validator = known.validator if known and known.document_id and not order.full else None
    with TemporaryDirectory(prefix="pilotis-sync-") as folder:
        path = Path(folder) / "content"
        async with asyncio.timeout_at(journey.ends):
            fetched = await source.fetch(item, path, known=validator, most_bytes=journey.env.max_file_bytes)
        if fetched is None:
            assert known
            await _unchanged(journey, known)
            return
        sha256, head = await asyncio.to_thread(_read, path)
        size = path.stat().st_size
        journey.report.bytes += size
        fresh = Known(
            key=item.key, bu=order.origin.bu, collection=order.origin.collection, name=name,
            sha256=sha256, size=size, validator=fetched.validator,
        )  # fmt: skip
        if known and known.document_id and known.sha256 == sha256 and not order.full:
            await _unchanged(journey, replace(known, validator=fetched.validator))
            return
        media = _media(item, fetched, head, journey)
        if known is None and await _moved(journey, found, fresh, media):
            return
        await _take(journey, path, known, fresh, media)


async def _take(journey: _Journey, path: Path, known: Known | None, fresh: Known, media: str) -> None:
    order, deps, items = journey.order, journey.deps, journey.deps.source_items
    if order.dry_run:
        _require_size(fresh.size, journey.env)
        same = known and known.sha256 == fresh.sha256
        journey.report.add("unchanged" if same else "changed" if known and known.document_id else "new", fresh.key)
        return
    source = order.origin.name
    before = known if known and known.document_id else await items.begin(source, fresh, sources=order.sources)
    document, changed = await receive(
        path, journey.env, deps,
        bu=fresh.bu, collection=fresh.collection, name=fresh.name, media_type=media, metadata=order.origin.metadata,
    )  # fmt: skip
    brought = before.brought or before.sha256 != fresh.sha256
    await items.keep(source, replace(fresh, document_id=document.id, brought=brought))
    news = before.sha256 != fresh.sha256
    journey.report.add("unchanged" if not news else "new" if before.sha256 is None else "changed", fresh.key)
    if changed or document.state not in FINAL:
        journey.stored(document.id, fresh.key)


async def _moved(journey: _Journey, found: Comparison, fresh: Known, media: str) -> bool:
    """Whether these are the bytes of something that is gone: its document then only gets another name."""
    assert fresh.sha256
    old = found.take_gone(fresh.sha256)
    if old is None:
        return False
    if not journey.order.dry_run:
        source, items = journey.order.origin.name, journey.deps.source_items
        if not await items.move(source, old, fresh, media_type=media):
            found.give_back(old)
            return False
        assert old.document_id
        document = await journey.deps.documents.get(fresh.bu, old.document_id)
        if document.state == "received":
            await journey.deps.queue.nudge("ingest")
        _wait_for(journey, replace(fresh, document_id=document.id, state=document.state))
    journey.report.add("moved", fresh.key, f"from {old.key}")
    return True


async def _unchanged(journey: _Journey, known: Known) -> None:
    if not journey.order.dry_run:
        await journey.deps.source_items.keep(journey.order.origin.name, known)
    _wait_for(journey, known)
    journey.report.add("unchanged", known.key)


def _wait_for(journey: _Journey, known: Known) -> None:
    if known.document_id and known.state not in FINAL:
        journey.stored(known.document_id, known.key)


async def _forget_lost(journey: _Journey, found: Comparison, *, had: int, listed: int) -> None:
    order, report = journey.order, journey.report
    lost = [*found.lost(), *journey.vanished.values()]
    documents = [known for known in lost if known.document_id and known.brought]
    incomplete = "the run ended before everything was compared" if report.error or report.left else None
    report.held_because = held_because(
        lost=len(documents), had=had, listed=listed - len(journey.vanished), incomplete=incomplete, allowed=order.allow_deletes
    )
    if report.held_because:
        report.held = len(documents)
        return
    for known in lost:
        if journey.is_over:
            report.left += 1
            continue
        if not order.dry_run:
            if known in documents:
                await _forget(known, journey.deps)
            await journey.deps.source_items.drop(order.origin.name, known)
        if known.document_id:
            report.add("deleted" if known.brought else "kept", known.key)


async def _forget(known: Known, deps: Deps) -> None:
    assert known.document_id
    with suppress(NotFound):  # somebody was quicker
        await forget(known.document_id, deps, bu=known.bu)


def _require_size(size: int, env: Env) -> None:
    if size == 0:
        raise Invalid("is empty (0 bytes)", remedy="exclude it, or wait until it has content", code="empty_file")
    if size > env.max_file_bytes:
        raise Invalid(
            f"has {size:,} bytes; the limit is {env.max_file_bytes:,}",
            remedy="exclude it, split it, or raise limits.max_file_mib in the contract",
            status=413,
            code="file_too_large",
        )


def _media(item: Item, fetched: Fetched, head: bytes, journey: _Journey) -> str:
    """By content and name where they tell; else as the source declares it."""
    name = urlsplit(item.key).path if journey.order.origin.kind == "web" else item.key
    guessed = journey.guess(name, head)
    return fetched.media_type if fetched.media_type and guessed in _VAGUE else guessed


def _read(path: Path) -> tuple[str, bytes]:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        return file_digest(file, "sha256").hexdigest(), head


def _said(error: PilotisError) -> str:
    return f"{error.message}; {error.remedy}" if error.remedy else error.message
