"""The road of a snapshot: begun -> tables as of one moment -> the bytes of their documents -> manifest, with which it is there.

snapshots/NAME/begun, tables/*, blobs.*, manifest.json      one folder for each, named by its time (UTC)
blobs/ab/cdef...                                           bytes by their SHA-256, shared by all snapshots

Whatever ends it on its way leaves a folder without a manifest, which is no snapshot and which `prune` removes. Bytes that are in the
archive already are not sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pilotis import __version__
from pilotis.batch import manifest as manifests
from pilotis.batch.manifest import BLOBS, SNAPSHOTS, File, Manifest, Owner, TableFile, blob_name, name_of, time_of
from pilotis.batch.packing import ending, packed, unpacked
from pilotis.errors import Conflict, NotFound, Permanent, Transient
from pilotis.ports import Blobs
from pilotis.ports.archive import Archive, Dump, Reading, Table, Tell

T = TypeVar("T")

AT_ONCE = 8
"""How many files are on their way at once."""
READ_BYTES = 1 << 20
BEGUN, PRUNING = "begun", "pruning/"
ABANDONED = timedelta(days=1)
"""How long one that has begun may take: after that nobody believes in it any more."""
PRUNE_LASTS = timedelta(hours=1)
"""How long files are removed in one go; what says so is believed for twice as long."""


def quiet(_what: str, _done: int, _total: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What an archive holds."""

    complete: tuple[Manifest, ...] = ()
    """Oldest first."""
    unfinished: tuple[str, ...] = ()
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read back of a snapshot; `faults` is empty where it can be restored."""

    files: int
    bytes: int
    faults: tuple[str, ...]


async def create(archive: Archive, dump: Dump, blobs: Blobs, owner: Owner, *, now: datetime, tell: Tell = quiet) -> Manifest:
    """Take a snapshot beside whatever goes on; it is complete once this returns.

    Raises Conflict where another is being taken of this database, or the archive is being pruned; Transient where a store is away.
    """
    async with dump.reading() as reading:
        return await take(archive, reading, blobs, owner, now=now, tell=tell)


async def take(
    archive: Archive, reading: Reading, blobs: Blobs, owner: Owner, *, now: datetime, tell: Tell = quiet
) -> Manifest:
    """The same, of a moment that is being read."""
    began, name = time.monotonic(), await _begin(archive, now)
    folder = f"{SNAPSHOTS}{name}/"
    tables = [await _table(archive, reading, table, f"{folder}tables/{table.name}", tell) for table in reading.tables]
    wanted = await reading.blobs()
    ledger, indexes, sequences = reading.ledger, reading.indexes, reading.sequences
    # From here on there are only files, which nobody deletes meanwhile: the database need not keep its old rows any longer.
    await reading.let_go()
    missing = await _bring(archive, blobs, wanted, tell)
    await reading.assure()
    listed = "".join(f"{digest} {size}\n" for digest, size in wanted).encode()
    made = Manifest(
        name=name,
        at=reading.at,
        pilotis=__version__,
        schema=reading.schema,
        owner=owner,
        ledger=ledger,
        tables=tuple(tables),
        indexes=indexes,
        sequences=sequences,
        blobs=await _put(archive, f"{folder}blobs{ending()}", packed(once(listed), ending())),
        blob_count=len(wanted),
        blob_bytes=sum(size for _, size in wanted),
        missing=missing,
    )
    if time.monotonic() - began > ABANDONED.total_seconds():
        raise Permanent(f"snapshot {name} took longer than a day: some of it may have been cleared away")
    await archive.put(f"{folder}manifest.json", once(manifests.written(made)))
    return made


async def shelf(archive: Archive, *, since: datetime | None = None) -> Shelf:
    """All snapshots, complete and other, or those of `since` then."""
    sizes = await archive.sizes(SNAPSHOTS)
    names = {name.split("/")[1] for name in sizes if name.count("/") > 1}
    complete, unfinished, damaged = [], [], {}
    for name in sorted(filter(manifests.NAME.fullmatch, names)):
        if since and time_of(name) < since:
            continue
        if f"{SNAPSHOTS}{name}/manifest.json" not in sizes:
            unfinished.append(name)
            continue
        try:
            complete.append(await find(archive, name))
        except NotFound:  # pruned meanwhile
            continue
        except Permanent as error:
            damaged[name] = error.message
    return Shelf(complete=tuple(complete), unfinished=tuple(unfinished), damaged=damaged)


async def find(archive: Archive, name: str) -> Manifest:
    """Of that name, `latest` for the newest. Raises NotFound, and Permanent where it is damaged."""
    if name == "latest":
        found = (await shelf(archive)).complete
        if not found:
            raise NotFound(f"there is no snapshot in {archive.where}", remedy="make one: pilotis snapshot create")
        return found[-1]
    if not manifests.NAME.fullmatch(name):
        raise NotFound(f"{name!r} is no name of a snapshot", remedy="list them: pilotis snapshot list")
    try:
        text = b"".join([chunk async for chunk in archive.get(f"{SNAPSHOTS}{name}/manifest.json")])
    except NotFound as error:
        raise NotFound(
            f"there is no complete snapshot {name} in {archive.where}", remedy="list them: pilotis snapshot list"
        ) from error
    return manifests.read(name, text)


async def verify(archive: Archive, dump: Dump, made: Manifest, *, tell: Tell = quiet) -> Verified:
    """Read everything back: digests, sizes, rows, and that the bytes of each document are there and are what they should be."""
    faults: list[str] = []
    size = 0
    for n, each in enumerate(made.tables):
        tell(f"table {each.table.name}", n, len(made.tables))
        try:
            rows = await dump.count(unpacked(checked(archive, each.file), each.file.name))
        except (NotFound, Permanent) as error:
            faults.append(error.message)
            continue
        size += each.file.size
        if rows != each.rows:
            faults.append(f"{each.file.name} has {rows} rows instead of {each.rows}")
    try:
        wanted = await blobs_of(archive, made)
    except (NotFound, Permanent) as error:
        return Verified(files=len(made.tables), bytes=size, faults=(*faults, error.message))
    faults += await _bad_blobs(archive, made, wanted, tell)
    files = len(made.tables) + 2 + len(wanted)
    return Verified(files=files, bytes=size + made.blobs.size + made.blob_bytes, faults=tuple(faults))


async def blobs_of(archive: Archive, made: Manifest) -> Sequence[tuple[str, int]]:
    """SHA-256 and size of the bytes it refers to. Raises NotFound, Permanent where the list is damaged."""
    text = b"".join([chunk async for chunk in unpacked(checked(archive, made.blobs), made.blobs.name)]).decode()
    return [(digest, int(size)) for digest, size in (line.split() for line in text.splitlines())]


async def checked(archive: Archive, file: File) -> AsyncIterator[bytes]:
    """Its bytes. Raises Permanent, at the end, where they are not those that were written; NotFound where it is gone."""
    read, size = sha256(), 0
    async for chunk in archive.get(file.name):
        await asyncio.to_thread(read.update, chunk)
        size += len(chunk)
        yield chunk
    if (size, read.hexdigest()) != (file.size, file.sha256):
        raise Permanent(f"{file.name} is damaged: {size:,} bytes that are not the {file.size:,} that were written")


async def side_by_side(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """`work` on every item, AT_ONCE at a time. The first error ends all."""
    waiting = iter(items)

    async def one() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.create_task(one()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pruning(archive: Archive, now: datetime) -> Sequence[str]:
    """Who says that he prunes, by the names of what says so."""
    said = [name.removeprefix(PRUNING) for name in await archive.sizes(PRUNING)]
    return [name for name in said if manifests.NAME.match(name) and now - time_of(name[:16]) < 2 * PRUNE_LASTS]


async def once(content: bytes) -> AsyncIterator[bytes]:
    """A file of one piece."""
    yield content


async def _begin(archive: Archive, now: datetime) -> str:
    """Whoever takes one and whoever prunes each say so first, and look for the other then: one of the two sees it."""
    taken = {name.split("/")[1] for name in await archive.sizes(SNAPSHOTS)}
    while (name := name_of(now)) in taken:
        now += timedelta(seconds=1)
    await archive.put(f"{SNAPSHOTS}{name}/{BEGUN}", once(__version__.encode()))
    if await pruning(archive, now):
        await archive.remove([f"{SNAPSHOTS}{name}/{BEGUN}"])
        raise Conflict(f"{archive.where} is being pruned", remedy="try again in some minutes")
    return name


async def _table(archive: Archive, reading: Reading, table: Table, name: str, tell: Tell) -> TableFile:
    tell(f"table {table.name}", reading.tables.index(table), len(reading.tables))
    file = await _put(archive, name + ending(), packed(reading.copy(table), ending()))
    return TableFile(table=table, rows=reading.rows(table), file=file)


async def _put(archive: Archive, name: str, content: AsyncIterable[bytes]) -> File:
    read, size = sha256(), 0

    async def seen() -> AsyncIterator[bytes]:
        nonlocal size
        async for chunk in content:
            await asyncio.to_thread(read.update, chunk)
            size += len(chunk)
            yield chunk

    await archive.put(name, seen())
    return File(name=name, size=size, sha256=read.hexdigest())


async def _bring(archive: Archive, blobs: Blobs, wanted: Sequence[tuple[str, int]], tell: Tell) -> tuple[str, ...]:
    """Copy the bytes that the archive has not; return the digests of those that are gone or damaged."""
    have = await archive.sizes(BLOBS)
    new = [digest for digest, size in wanted if have.get(blob_name(digest)) != size]
    missing: list[str] = []
    done = 0
    with TemporaryDirectory(prefix="pilotis-snapshot-") as folder:

        async def bring(digest: str) -> None:
            nonlocal done
            path = Path(folder) / digest
            try:
                await blobs.fetch(digest, path)
            except Transient:
                if await blobs.exists(digest):
                    raise
                missing.append(digest)
            else:
                if await asyncio.to_thread(_digest, path) == digest:
                    await archive.put(blob_name(digest), _chunks(path))
                else:
                    missing.append(digest)
            path.unlink(missing_ok=True)
            tell("files of documents", done := done + 1, len(new))

        await side_by_side(new, bring)
    return tuple(sorted(missing))


async def _bad_blobs(archive: Archive, made: Manifest, wanted: Sequence[tuple[str, int]], tell: Tell) -> list[str]:
    faults: list[str] = []
    done, missing = 0, frozenset(made.missing)

    async def look(one: tuple[str, int]) -> None:
        nonlocal done
        digest, size = one
        tell("files of documents", done := done + 1, len(wanted))
        if digest in missing:
            return
        try:
            async for _ in checked(archive, File(name=blob_name(digest), size=size, sha256=digest)):
                pass
        except (NotFound, Permanent) as error:
            faults.append(error.message)

    await side_by_side(wanted, look)
    return sorted(faults)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, READ_BYTES):
            yield chunk


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
