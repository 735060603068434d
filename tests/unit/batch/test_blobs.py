"""What a folder of blobs does besides what `ports.Blobs` promises."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pilotis.adapters.blobs import FolderBlobs
from pilotis.errors import Transient


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(bytes(range(256)) * 10_000)
    return path


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
