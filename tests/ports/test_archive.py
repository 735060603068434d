"""What `ports.archive.Archive` promises, asked of every implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilotis.adapters.archive.folder import FolderArchive
from pilotis.errors import NotFound
from pilotis.ports.archive import Archive
from pilotis.testing.archive import MemoryArchive


@pytest.fixture(params=["memory", "folder"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    return MemoryArchive() if request.param == "memory" else FolderArchive(tmp_path / "made" / "archive")


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
    await archive.put("large", chunks(*[part] * 20))
    assert await read(archive, "large") == part * 20
    assert await archive.sizes("large") == {"large": 20 << 20}


async def test_sizes_are_of_what_is_below(archive: Archive) -> None:
    assert await archive.sizes("blobs/") == {}
    for name in ("blobs/ab/c", "blobs/ab/d", "blobs2/e", "pruning"):
        await archive.put(name, chunks(name.encode()))
    assert await archive.sizes("blobs/") == {"blobs/ab/c": 10, "blobs/ab/d": 10}
    assert await archive.sizes("pruning") == {"pruning": 7}
    assert len(await archive.sizes("")) == 4


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
        yield b"half"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        await archive.put("one", broken())
    with pytest.raises(RuntimeError):
        await archive.put("two", broken())
    assert await read(archive, "one") == b"before"
    assert await archive.sizes("") == {"one": 6}


def test_places_are_told_in_words(archive: Archive) -> None:
    assert archive.where
