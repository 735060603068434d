"""Which snapshots stay, which go, and when the next is taken."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pilotis.batch.manifest import Owner, blob_name
from pilotis.batch.retention import Keep, chosen, create_if_due, prune
from pilotis.batch.snapshot import create, shelf, verify
from pilotis.errors import Conflict
from pilotis.testing.archive import MemoryArchive, MemoryDump
from pilotis.testing.blobs import MemoryBlobs

NOW = datetime(2026, 7, 14, 3, tzinfo=UTC)
OWNER = Owner(contract="rag", env="dev", digest="0" * 64)
OTHER = Owner(contract="rag", env="prod", digest="0" * 64)
KEEP = Keep(days=2, months=1)


class Town:
    """A database of one document at a time, and an archive."""

    def __init__(self, folder: Path) -> None:
        self.archive, self.blobs, self.dump, self.folder = MemoryArchive(), MemoryBlobs(), MemoryDump(), folder

    async def day(self, n: int, *, owner: Owner = OWNER, text: str = "") -> str:
        """The snapshot of the n-th day, with a document of that day; its digest."""
        path = self.folder / "content"
        path.write_text(text or f"day {n}")
        digest, size = await self.blobs.put(path)
        self.dump.documents = [(digest, size)]
        await create(self.archive, self.dump, self.blobs, owner, now=NOW + timedelta(days=n))
        return digest

    async def due(self, now: datetime, *, owner: Owner = OWNER) -> str | None:
        made = await create_if_due(self.archive, self.dump, self.blobs, owner, hour=3, zone="Europe/Paris", keep=KEEP, now=now)
        return made.name if made else None

    async def names(self) -> list[str]:
        return [made.name for made in (await shelf(self.archive)).complete]

    def stored(self) -> set[str]:
        return {name for name in self.archive.files if name.startswith("blobs/")}


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_the_newest_of_each_day_and_of_each_month_stays() -> None:
    names = [
        "20260101T030000Z",
        "20260130T030000Z",
        "20260228T030000Z",
        "20260313T030000Z",
        "20260314T010000Z",
        "20260314T030000Z",
    ]
    assert chosen(names, Keep(days=2, months=2)) == ["20260228T030000Z", "20260313T030000Z", "20260314T030000Z"]
    assert chosen(names, Keep(days=1, months=9)) == ["20260130T030000Z", "20260228T030000Z", "20260314T030000Z"]
    assert chosen(names, Keep(days=0, months=0)) == ["20260314T030000Z"]
    assert chosen([], Keep()) == []


async def test_what_is_old_goes_with_the_files_that_nobody_else_needs(town: Town) -> None:
    shared = await town.day(0, text="shared")
    old = await town.day(1)
    await town.day(2, text="shared")
    new = await town.day(3)
    dry = await prune(town.archive, OWNER, KEEP, now=NOW + timedelta(days=3), dry=True)
    assert len(await town.names()) == 4
    assert town.stored() == {blob_name(shared), blob_name(old), blob_name(new)}
    done = await prune(town.archive, OWNER, KEEP, now=NOW + timedelta(days=3))
    assert done == dry
    assert (done.snapshots, done.files, done.hindrance) == (("20260714T030000Z", "20260715T030000Z"), 1, "")
    assert await town.names() == ["20260716T030000Z", "20260717T030000Z"] == list(done.kept)
    assert town.stored() == {blob_name(shared), blob_name(new)}
    for made in (await shelf(town.archive)).complete:
        assert (await verify(town.archive, town.dump, made)).faults == ()
    assert not [name for name in town.archive.files if "20260714" in name or name.startswith("pruning")]


async def test_another_env_s_are_not_ours_to_remove(town: Town) -> None:
    theirs = await town.day(0, owner=OTHER)
    for n in range(1, 5):
        await town.day(n)
    await prune(town.archive, OWNER, Keep(days=1, months=0), now=NOW + timedelta(days=4))
    assert await town.names() == ["20260714T030000Z", "20260718T030000Z"]
    assert blob_name(theirs) in town.stored()


async def test_files_stay_where_it_is_not_known_who_needs_them(town: Town) -> None:
    for n in range(3):
        await town.day(n)
    manifest = "snapshots/20260714T030000Z/manifest.json"
    town.archive.files[manifest] = town.archive.files[manifest][:-5]
    done = await prune(town.archive, OWNER, Keep(days=1, months=0), now=NOW + timedelta(days=2))
    assert (done.snapshots, done.files) == (("20260715T030000Z",), 0)
    assert "20260714T030000Z" in done.hindrance
    assert len(town.stored()) == 3


async def test_what_is_on_its_way_keeps_its_files(town: Town) -> None:
    await town.day(0)
    await town.day(1)
    town.archive.files["snapshots/20260715T040000Z/begun"] = b""
    done = await prune(town.archive, OWNER, Keep(days=1, months=0), now=NOW + timedelta(days=1, hours=2))
    assert (len(done.snapshots), done.files, done.unfinished) == (1, 0, ())
    assert "20260715T040000Z" in done.hindrance
    done = await prune(town.archive, OWNER, Keep(days=1, months=0), now=NOW + timedelta(days=3))
    assert (done.files, done.unfinished) == (1, ("20260715T040000Z",))
    assert (await shelf(town.archive)).unfinished == ()


async def test_only_one_prunes_and_nobody_takes_one_meanwhile(town: Town) -> None:
    await town.day(0)
    said = "pruning/20260715T030000Z-abc"
    town.archive.files[said] = b""
    with pytest.raises(Conflict):
        await prune(town.archive, OWNER, KEEP, now=NOW + timedelta(days=1))
    with pytest.raises(Conflict):
        await town.day(1)
    assert [name for name in town.archive.files if name.startswith("pruning/")] == [said]
    await town.day(2)  # one that was killed is not waited for for ever
    await prune(town.archive, OWNER, KEEP, now=NOW + timedelta(days=2))


async def test_one_a_day_is_taken_after_its_hour(town: Town) -> None:
    # Three o'clock in Paris is one o'clock UTC in summer.
    at = [await town.due(NOW.replace(hour=hour, minute=30)) for hour in (0, 1, 2, 23)]
    assert at == [None, "20260714T013000Z", None, None]
    assert await town.due(NOW.replace(day=15, hour=1)) == "20260715T010000Z"
    assert await town.due(NOW.replace(day=15, hour=1), owner=OTHER) == "20260715T010001Z"
    for day in (16, 17):
        await town.due(NOW.replace(day=day))
    assert await town.names() == ["20260715T010001Z", "20260716T030000Z", "20260717T030000Z"]


async def test_of_many_processes_one_takes_it(town: Town) -> None:
    made = await asyncio.gather(*(town.due(NOW + timedelta(seconds=n)) for n in range(5)))
    assert [name for name in made if name] == ["20260714T030000Z"]
    assert await town.names() == ["20260714T030000Z"]


async def test_one_that_broke_off_is_tried_again_after_a_while(town: Town) -> None:
    town.archive.files["snapshots/20260714T030000Z/begun"] = b""
    assert await town.due(NOW + timedelta(minutes=14)) is None
    assert await town.due(NOW + timedelta(minutes=15)) == "20260714T031500Z"
