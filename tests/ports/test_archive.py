"""What `ports.archive.Archive` promises, asked of every implementation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilotis.adapters.archive import open_archive
from pilotis.errors import NotFound, SetupError, Transient
from pilotis.ports.archive import Archive
from pilotis.testing.archive import MemoryArchive


@pytest.fixture(params=["memory", "folder", "s3"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    if request.param == "memory":
        return MemoryArchive()
    if request.param == "folder":
        return open_archive(str(tmp_path / "made" / "archive"))
    return open_archive(request.getfixturevalue("bucket"))


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(archive: Archive, name: str) -> bytes:
    return b"".join([chunk async for chunk in archive.get(name)])


async def test_what_was_put_is_read_back(archive: Archive) -> None:
    await archive.put("snapshots/a/one", chunks(b"some ", b"", b"bytes"))
    assert await read(archive, "snapshots/a/one") == b"some bytes"
    await archive.put("snapshots/a/one", chunks(b"others"))
    assert await read(archive, "snapshots/a/one") == b"others"


async def test_an_empty_file_is_a_file(archive: Archive) -> None:
    await archive.put("empty", chunks())
    assert await read(archive, "empty") == b""
    assert await archive.sizes("") == {"empty": 0}


async def test_large_files_come_back_whole(archive: Archive) -> None:
    part = bytes(range(256)) * 4096
    for count in (16, 17, 33):
        await archive.put("large", chunks(*[part] * count, b"end"))
        assert await read(archive, "large") == part * count + b"end"
        assert await archive.sizes("large") == {"large": (count << 20) + 3}


async def test_sizes_are_of_what_is_below(archive: Archive) -> None:
    assert await archive.sizes("blobs/") == {}
    for name in ("blobs/ab/c", "blobs/ab/d", "blobs2/e", "pruning", "pruning2"):
        await archive.put(name, chunks(name.encode()))
    assert await archive.sizes("blobs/") == {"blobs/ab/c": 10, "blobs/ab/d": 10}
    assert await archive.sizes("pruning") == {"pruning": 7}
    assert await archive.sizes("nothing") == {}
    assert len(await archive.sizes("")) == 5


async def test_what_is_not_there_is_not_found(archive: Archive) -> None:
    with pytest.raises(NotFound, match="nothing/here"):
        await read(archive, "nothing/here")
    await archive.put("nothing", chunks(b"a file"))
    with pytest.raises(NotFound):
        await read(archive, "nothing/here")


async def test_what_was_removed_is_gone_and_its_neighbour_is_not(archive: Archive) -> None:
    await archive.put("snapshots/a/one", chunks(b"1"))
    await archive.put("snapshots/b/one", chunks(b"2"))
    await archive.remove(["snapshots/a/one", "snapshots/a/never"])
    assert list(await archive.sizes("snapshots/")) == ["snapshots/b/one"]
    with pytest.raises(NotFound):
        await read(archive, "snapshots/a/one")


async def test_a_put_that_breaks_off_leaves_what_was(archive: Archive) -> None:
    await archive.put("one", chunks(b"before"))

    async def broken() -> AsyncIterator[bytes]:
        yield b"half" * (5 << 20)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        await archive.put("one", broken())
    with pytest.raises(RuntimeError):
        await archive.put("two", broken())
    assert await read(archive, "one") == b"before"
    assert await archive.sizes("") == {"one": 6}


def test_places_are_told_in_words(archive: Archive) -> None:
    assert archive.where


@pytest.mark.parametrize("place", ["ftp://host/x", "s3://UPPER/x", "s3://a", "http://bucket"])
def test_other_addresses_are_refused(place: str) -> None:
    with pytest.raises(SetupError, match="no place for snapshots"):
        open_archive(place)


async def test_a_bucket_that_is_not_there_is_said(bucket: str) -> None:
    with pytest.raises(SetupError, match="NoSuchBucket"):
        await open_archive("s3://another-bucket/x").sizes("")
    assert (await open_archive(bucket).sizes("")) == {}


async def test_a_store_that_is_away_is_transient(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    archive = open_archive(bucket)
    with pytest.raises(Transient, match="cannot be reached"):
        await archive.sizes("")


async def test_what_breaks_off_leaves_no_parts_behind(bucket: str) -> None:
    import boto3

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(20 << 20)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        await open_archive(bucket).put("one", broken())
    name = bucket.removeprefix("s3://").split("/")[0]
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket=name)


async def test_what_a_killed_process_left_is_cleared_away_a_day_later(tmp_path: Path) -> None:
    archive = open_archive(str(tmp_path))
    old, young = tmp_path / "blobs" / ".arriving-old", tmp_path / "blobs" / ".arriving-young"
    old.parent.mkdir()
    for each in (old, young):
        each.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert await archive.sizes("") == {}
    assert (old.exists(), young.exists()) == (False, True)
