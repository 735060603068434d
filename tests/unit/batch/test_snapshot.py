"""The road of a snapshot and its way back, in memory: what is shared, what breaks, what is found to be broken."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest

from pilotis.batch import manifest as manifests
from pilotis.batch.manifest import Manifest, Owner, blob_name, name_of
from pilotis.batch.restore import restore
from pilotis.batch.snapshot import create, find, shelf, verify
from pilotis.errors import Conflict, NotFound, Permanent, SetupError
from pilotis.ports.archive import LedgerSum
from pilotis.testing.archive import MemoryArchive, MemoryDump
from pilotis.testing.blobs import MemoryBlobs

NOW = datetime(2026, 7, 14, 3, tzinfo=UTC)
OWNER = Owner(contract="rag", env="dev", digest="0" * 64)


class Town:
    """A database and its bytes, and an archive."""

    def __init__(self, folder: Path) -> None:
        self.archive, self.blobs, self.folder = MemoryArchive(), MemoryBlobs(), folder
        self.dump = MemoryDump(
            tables={"document": ["a", "b"], "ledger": ["250000", "1"]},
            ledger=LedgerSum(events=2, micro=250_001, cost_eur=Decimal("0.250001")),
        )

    async def add(self, content: bytes) -> str:
        path = self.folder / "content"
        path.write_bytes(content)
        digest, size = await self.blobs.put(path)
        await self.blobs.settle(digest)
        self.dump.documents.append((digest, size))
        return digest

    async def create(self, now: datetime = NOW) -> Manifest:
        return await create(self.archive, self.dump, self.blobs, OWNER, now=now)

    async def restore(self, made: Manifest, dump: MemoryDump, blobs: MemoryBlobs) -> list[str]:
        """What was cached is forgotten; return when: before or after the new rows are seen."""
        when: list[str] = []

        async def forget() -> None:
            when.append("after" if dump.tables else "before")

        await restore(self.archive, dump, blobs, made, forget=forget)
        return when


@pytest.fixture
async def town(tmp_path: Path) -> Town:
    made = Town(tmp_path)
    await made.add(b"the first file")
    await made.add(b"the second file")
    return made


async def test_a_snapshot_says_what_it_holds(town: Town) -> None:
    made = await town.create()
    assert made.name == "20260714T030000Z"
    assert {each.table.name: each.rows for each in made.tables} == {"document": 2, "ledger": 2}
    assert (made.ledger.micro, made.ledger.cost_eur) == (250_001, Decimal("0.250001"))
    assert (made.blob_count, made.blob_bytes, made.missing) == (2, 29, ())
    assert (await shelf(town.archive)).complete == (made,)
    assert await find(town.archive, "latest") == made
    for each in made.tables:
        content = town.archive.files[each.file.name]
        assert (each.file.size, each.file.sha256) == (len(content), sha256(content).hexdigest())


async def test_bytes_are_sent_once(town: Town) -> None:
    await town.create()
    sent: list[str] = []
    put = town.archive.put

    async def seen(name: str, content: AsyncIterable[bytes]) -> None:
        sent.append(name)
        await put(name, content)

    town.archive.put = seen  # type: ignore[method-assign]
    new = await town.add(b"the third file")
    second = await town.create(NOW + timedelta(days=1))
    assert [name for name in sent if name.startswith("blobs/")] == [blob_name(new)]
    assert (await verify(town.archive, town.dump, second)).faults == ()


async def test_two_in_one_second_have_two_names(town: Town) -> None:
    assert [(await town.create()).name for _ in range(2)] == ["20260714T030000Z", "20260714T030001Z"]


async def test_one_that_breaks_off_is_no_snapshot(town: Town) -> None:
    async def broken(sha256: str, into: Path) -> None:
        raise RuntimeError("killed")

    town.blobs.fetch = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await town.create()
    found = await shelf(town.archive)
    assert (found.complete, found.unfinished) == ((), ("20260714T030000Z",))
    with pytest.raises(NotFound):
        await find(town.archive, "latest")
    with pytest.raises(NotFound, match="no complete snapshot"):
        await find(town.archive, "20260714T030000Z")


async def test_only_one_is_taken_at_a_time(town: Town) -> None:
    async with town.dump.reading():
        with pytest.raises(Conflict):
            await town.create()


async def test_an_archive_being_pruned_is_left_alone(town: Town) -> None:
    town.archive.files[f"pruning/{name_of(NOW)}-x"] = b""
    with pytest.raises(Conflict, match="pruned"):
        await town.create()
    assert await shelf(town.archive) == (await shelf(MemoryArchive()))


async def test_bytes_that_are_gone_or_damaged_are_named(town: Town) -> None:
    gone, damaged = (digest for digest, _ in town.dump.documents)
    del town.blobs.contents[gone]
    town.blobs.contents[damaged] = b"the sexond file"
    made = await town.create()
    assert made.missing == tuple(sorted((gone, damaged)))
    assert not any(name.startswith("blobs/") for name in town.archive.files)
    assert (await verify(town.archive, town.dump, made)).faults == ()


async def test_a_whole_one_has_no_faults(town: Town) -> None:
    found = await verify(town.archive, town.dump, await town.create())
    assert found.faults == ()
    assert found.files == 6


@pytest.mark.parametrize("change", [lambda old: old[:-1], lambda old: old[:10] + b"\0" + old[11:], lambda old: old + b"x"])
@pytest.mark.parametrize("part", ["tables/document", "tables/ledger", "/blobs.", "blobs/"])
async def test_a_changed_byte_is_found(town: Town, part: str, change: Callable[[bytes], bytes]) -> None:
    made = await town.create()
    name = next(name for name in town.archive.files if part in name and (part != "blobs/" or name.startswith(part)))
    town.archive.files[name] = change(town.archive.files[name])
    faults = (await verify(town.archive, town.dump, made)).faults
    assert len(faults) == 1
    assert name in faults[0]
    fresh = MemoryDump()
    with pytest.raises(Permanent, match=name.rsplit("/", 1)[1]):
        await town.restore(made, fresh, MemoryBlobs())
    assert fresh.tables == {}


async def test_a_file_that_is_gone_is_found(town: Town) -> None:
    made = await town.create()
    name = blob_name(town.dump.documents[0][0])
    del town.archive.files[name]
    faults = (await verify(town.archive, town.dump, made)).faults
    assert len(faults) == 1
    assert name in faults[0]


async def test_rows_that_are_not_counted_right_are_found(town: Town) -> None:
    made = await town.create()
    wrong = replace(made, tables=(replace(made.tables[0], rows=3), *made.tables[1:]))
    assert "2 rows instead of 3" in (await verify(town.archive, town.dump, wrong)).faults[0]


async def test_what_was_comes_back(town: Town) -> None:
    made = await town.create()
    dump, blobs = MemoryDump(), MemoryBlobs()
    when = await town.restore(made, dump, blobs)
    assert dump.tables == town.dump.tables
    assert blobs.contents == town.blobs.contents
    assert await blobs.unsettled(older_than_s=0) == []
    assert when == ["before"]


async def test_damaged_bytes_are_replaced(town: Town) -> None:
    made = await town.create()
    damaged = town.dump.documents[0][0]
    whole = dict(town.blobs.contents)
    town.blobs.contents[damaged] = b"rotten"
    await town.restore(made, MemoryDump(), town.blobs)
    assert town.blobs.contents == whole


async def test_a_ledger_of_another_sum_is_not_restored(town: Town) -> None:
    made = await town.create()
    wrong = replace(made, ledger=replace(made.ledger, micro=250_002))
    fresh = MemoryDump()
    with pytest.raises(Permanent, match="ledger"):
        await town.restore(wrong, fresh, MemoryBlobs())
    assert fresh.tables == {}


async def test_a_manifest_with_a_changed_byte_is_damaged(town: Town) -> None:
    made = await town.create()
    name = f"snapshots/{made.name}/manifest.json"
    town.archive.files[name] = town.archive.files[name].replace(b'"rows": 2', b'"rows": 3')
    with pytest.raises(Permanent, match="manifest"):
        await find(town.archive, made.name)
    found = await shelf(town.archive)
    assert found.complete == ()
    assert list(found.damaged) == [made.name]


async def test_a_newer_format_says_so(town: Town) -> None:
    made = await town.create()
    newer = manifests.written(made).replace(b'"format": 1', b'"format": 2')
    with pytest.raises(SetupError, match="format 2"):
        manifests.read(made.name, newer)


async def test_gzip_is_read_where_zstandard_wrote_and_the_other_way(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotis.batch.snapshot.ending", lambda: ".gz")
    made = await town.create()
    assert all(each.file.name.endswith(".gz") for each in made.tables)
    assert zlib.decompress(town.archive.files[made.tables[0].file.name], wbits=31) == b"a\nb\n"
    assert (await verify(town.archive, town.dump, made)).faults == ()
