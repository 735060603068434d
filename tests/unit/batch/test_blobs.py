from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from pilotis.adapters.blobs import FolderBlobs
from pilotis.errors import Transient
from pilotis.ports import Blobs
from pilotis.testing.blobs import MemoryBlobs


@pytest.fixture(params=["memory", "folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(bytes(range(256)) * 10_000)
    return path


async def test_bytes_come_back_as_they_went(blobs: Blobs, content: Path, tmp_path: Path) -> None:
    digest, size = await blobs.put(content)
    assert (digest, size) == (hashlib.sha256(content.read_bytes()).hexdigest(), 2_560_000)
    assert await blobs.exists(digest)
    await blobs.fetch(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content.read_bytes()
    assert await blobs.put(content) == (digest, size)


async def test_deleting_twice(blobs: Blobs, content: Path, tmp_path: Path) -> None:
    digest, _ = await blobs.put(content)
    await blobs.delete(digest)
    await blobs.delete(digest)
    assert not await blobs.exists(digest)
    with pytest.raises(Transient, match="missing"):
        await blobs.fetch(digest, tmp_path / "back")


async def test_bytes_that_are_known_are_not_written_again(tmp_path: Path, content: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    digest, _ = await blobs.put(content)
    stored = tmp_path / "blobs" / digest[:2] / digest[2:]
    before = stored.stat()
    await blobs.put(content)
    assert (stored.stat().st_ino, stored.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, content: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Transient, match=r"the disk is full: 2,560,000 bytes needed, [\d,]+ free in"):
        await FolderBlobs(tmp_path / "blobs").put(content)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
async def test_no_room_for_the_copy(tmp_path: Path, content: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    digest, _ = await blobs.put(content)
    with pytest.raises(Transient, match="the disk is full"):
        await blobs.fetch(digest, Path("/dev/full"))


async def test_what_a_crash_left_is_cleared_once_it_is_old(tmp_path: Path, content: Path) -> None:
    folder = tmp_path / "blobs"
    digest, _ = await FolderBlobs(folder).put(content)
    (folder / "arriving-old").touch()
    (folder / "arriving-now").touch()
    os.utime(folder / "arriving-old", (0, 0))
    assert await FolderBlobs(folder).exists(digest)
    assert sorted(path.name for path in folder.glob("arriving-*")) == ["arriving-now"]


async def test_bytes_are_unsettled_until_a_document_has_them(blobs: Blobs, content: Path) -> None:
    digest, _ = await blobs.put(content)
    assert await blobs.unsettled(older_than_s=0) == [digest]
    assert await blobs.unsettled(older_than_s=60) == []
    await blobs.settle(digest)
    await blobs.settle(digest)
    assert await blobs.unsettled(older_than_s=0) == []
    await blobs.put(content)
    assert await blobs.unsettled(older_than_s=0) == [], "they are known"


async def test_deleted_bytes_are_not_unsettled(blobs: Blobs, content: Path) -> None:
    digest, _ = await blobs.put(content)
    await blobs.delete(digest)
    assert await blobs.unsettled(older_than_s=0) == []
