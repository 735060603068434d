"""Which snapshots stay, which go, and when the next is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from pilotis.batch.manifest import BLOBS, SNAPSHOTS, Manifest, Owner, blob_name, name_of, time_of
from pilotis.batch.snapshot import ABANDONED, PRUNE_LASTS, PRUNING, Shelf, blobs_of, once, pruning, quiet, shelf, take
from pilotis.errors import Conflict, NotFound, Permanent
from pilotis.ports import Blobs
from pilotis.ports.archive import Archive, Dump, Tell

log = logging.getLogger(__name__)

STEP = 1000
AGAIN = timedelta(minutes=15)
"""After one that broke off, how long nobody tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The newest of each of the last `days` days that have one, and of each of the last `months` months; one at least."""

    days: int = 7
    months: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What went."""

    snapshots: tuple[str, ...]
    unfinished: tuple[str, ...]
    files: int
    """Of documents that no snapshot refers to any more."""
    bytes: int
    kept: tuple[str, ...]
    hindrance: str = ""
    """Why files were left that may not be needed."""


async def prune(archive: Archive, owner: Owner, keep: Keep, *, now: datetime, dry: bool = False, tell: Tell = quiet) -> Pruned:
    """Remove this contract's and env's old snapshots, what never finished, and files that no snapshot refers to.

    Those of another contract or env in the same archive stay, and so do damaged ones. With `dry` nothing is removed. Killed, it
    leaves whole snapshots, and the next one goes on. Raises Conflict where somebody else prunes.
    """
    said, ends = f"{name_of(now)}-{uuid4().hex}", time.monotonic() + PRUNE_LASTS.total_seconds()
    if not dry:
        # Whoever takes a snapshot says so first and looks for this then, as we look for him: one of the two sees it.
        await archive.put(PRUNING + said, once(b""))
    try:
        if set(await pruning(archive, now)) - {said}:
            raise Conflict(f"{archive.where} is being pruned", remedy="try again in some minutes")
        found = await shelf(archive)
        mine = [made for made in found.complete if (made.owner.contract, made.owner.env) == (owner.contract, owner.env)]
        kept = set(chosen([made.name for made in mine], keep))
        going = [made.name for made in mine if made.name not in kept]
        dead = [name for name in found.unfinished if now - time_of(name) > ABANDONED]
        left = [made for made in found.complete if made.name not in going]
        names, size, hindrance = await _unused(archive, found, left, dead)
        if not dry:
            for n, name in enumerate([*going, *dead]):
                tell("snapshots", n, len(going) + len(dead))
                await _remove(archive, name)
            for begins in range(0, len(names), STEP):
                tell("files of documents", begins, len(names))
                if time.monotonic() > ends:
                    hindrance = f"{len(names) - begins} files are left for the next time: an hour is over"
                    break
                await archive.remove(names[begins : begins + STEP])
    finally:
        if not dry:
            await archive.remove([PRUNING + said])
    return Pruned(
        snapshots=tuple(going),
        unfinished=tuple(dead),
        files=len(names),
        bytes=size,
        kept=tuple(sorted(kept)),
        hindrance=hindrance,
    )


def chosen(names: Sequence[str], keep: Keep) -> Sequence[str]:
    """Those of these snapshots that stay."""
    by_day = {name[:8]: name for name in sorted(names)}
    by_month = {name[:6]: name for name in sorted(names)}
    days = [by_day[day] for day in sorted(by_day)[-keep.days :]] if keep.days else []
    months = [by_month[month] for month in sorted(by_month)[-keep.months :]] if keep.months else []
    return sorted({*days, *months, *sorted(names)[-1:]})


async def create_if_due(
    archive: Archive, dump: Dump, blobs: Blobs, owner: Owner, *, hour: int, zone: str, keep: Keep, now: datetime
) -> Manifest | None:
    """Take today's snapshot and prune, if it is past `hour` (0 to 23, in `zone`) and nobody has done so yet; None else.

    Call it every minute, from as many processes as there are: of one database only one takes a snapshot at a time. One that broke off
    is tried again after AGAIN. Raises Transient where a store is away.
    """
    if not await _is_due(archive, owner, hour=hour, zone=zone, now=now):
        return None
    try:
        async with dump.reading() as reading:
            # Another process may have done it between our look and our turn.
            if not await _is_due(archive, owner, hour=hour, zone=zone, now=now):
                return None
            made = await take(archive, reading, blobs, owner, now=now)
    except Conflict as error:
        log.info("the snapshot of today waits: %s", error.message)
        return None
    log.info("snapshot %s is complete in %s", made.name, archive.where)
    if made.missing:
        log.error("snapshot %s lacks the bytes of %d documents; see: pilotis doctor --deep", made.name, len(made.missing))
    pruned = await prune(archive, owner, keep, now=now)
    if pruned.snapshots:
        log.info("snapshots %s are removed, with %d files", ", ".join(pruned.snapshots), pruned.files)
    return made


async def _is_due(archive: Archive, owner: Owner, *, hour: int, zone: str, now: datetime) -> bool:
    local = now.astimezone(ZoneInfo(zone))
    due = local.replace(hour=hour, minute=0, second=0, microsecond=0).astimezone(UTC)
    if now < due:
        return False
    found = await shelf(archive, since=min(due, now - AGAIN))
    mine = [made for made in found.complete if (made.owner.contract, made.owner.env) == (owner.contract, owner.env)]
    begun = [name for name in found.unfinished if now - time_of(name) < AGAIN]
    return not begun and not any(time_of(made.name) >= due for made in mine)


async def _unused(archive: Archive, found: Shelf, left: Sequence[Manifest], dead: Sequence[str]) -> tuple[list[str], int, str]:
    """Files that none of those `left` refers to, their bytes, and why that cannot be told."""
    if found.damaged:
        return [], 0, f"{', '.join(found.damaged)} cannot be read: what they refer to is not known"
    if begun := set(found.unfinished) - set(dead):
        return [], 0, f"{', '.join(sorted(begun))} may be on its way"
    stored = dict(await archive.sizes(BLOBS))
    for made in left:
        try:
            for digest, _ in await blobs_of(archive, made):
                stored.pop(blob_name(digest), None)
        except (NotFound, Permanent) as error:
            return [], 0, error.message
    return sorted(stored), sum(stored.values()), ""


async def _remove(archive: Archive, name: str) -> None:
    """Its manifest first: from then on it is none."""
    await archive.remove([f"{SNAPSHOTS}{name}/manifest.json"])
    await archive.remove(sorted(await archive.sizes(f"{SNAPSHOTS}{name}/")))
