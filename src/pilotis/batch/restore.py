"""The way back: bytes of documents first, then all tables in one transaction, and nothing that was cached before is served after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pilotis.batch.manifest import File, Manifest, blob_name
from pilotis.batch.packing import unpacked
from pilotis.batch.snapshot import blobs_of, checked, quiet, side_by_side
from pilotis.errors import Permanent
from pilotis.ports import Blobs
from pilotis.ports.archive import Archive, Dump, Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was brought back."""

    manifest: Manifest
    rows: int
    blobs: int
    """Files of documents that had to be brought back; the others were there, whole."""


async def restore(
    archive: Archive, dump: Dump, blobs: Blobs, made: Manifest, *, forget: Callable[[], Awaitable[object]], tell: Tell = quiet
) -> Restored:
    """Put what the snapshot holds in the place of whatever there is. Killed at any point, it leaves what was, or what is to be.

    `forget` makes caches and counters forget what they know of the database that was; it is called before the new one can be seen.
    Nobody else may use the database meanwhile. Raises SetupError where the snapshot is newer than this version, Conflict where the
    database is in use, Permanent where the snapshot is damaged; nothing is changed then.
    """
    async with dump.writing(schema=made.schema) as writing:
        wanted = await blobs_of(archive, made)
        # Bytes that no document refers to are harmless, should this end here: they are cleared away after an hour.
        brought = await _bring_back(archive, blobs, made, wanted, tell)
        rows = 0
        for n, each in enumerate(made.tables):
            tell(f"table {each.table.name}", n, len(made.tables))
            loaded = await writing.load(each.table, unpacked(checked(archive, each.file), each.file.name))
            if loaded != each.rows:
                raise Permanent(f"{each.file.name} has {loaded} rows instead of {each.rows}", remedy="use another snapshot")
            rows += loaded
        await writing.finish(made.indexes, made.sequences, tell=tell)
        if (ledger := await writing.ledger()) != made.ledger:
            raise Permanent(
                f"the ledger would have {ledger.events} events of {ledger.cost_eur} €, the snapshot says "
                f"{made.ledger.events} of {made.ledger.cost_eur} €",
                remedy="use another snapshot",
            )
        await forget()
        await writing.commit()
    for digest, _ in wanted:
        await blobs.settle(digest)
    return Restored(manifest=made, rows=rows, blobs=brought)


async def _bring_back(archive: Archive, blobs: Blobs, made: Manifest, wanted: Sequence[tuple[str, int]], tell: Tell) -> int:
    done = brought = 0
    missing = frozenset(made.missing)
    with TemporaryDirectory(prefix="pilotis-restore-") as folder:

        async def bring(one: tuple[str, int]) -> None:
            nonlocal done, brought
            digest, size = one
            if digest not in missing and await blobs.check(digest) != "whole":
                path = Path(folder) / digest
                with path.open("wb") as file:
                    async for chunk in checked(archive, File(name=blob_name(digest), size=size, sha256=digest)):
                        await asyncio.to_thread(file.write, chunk)
                await blobs.delete(digest)  # what is damaged is not written over
                await blobs.put(path)
                path.unlink()
                brought += 1
            tell("files of documents", done := done + 1, len(wanted))

        await side_by_side(wanted, bring)
    return brought
