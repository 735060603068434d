"""What `ports.Blobs` promises, asked of every implementation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pilotis.adapters.blobs import open_blobs
from pilotis.adapters.blobs.s3 import PART
from pilotis.errors import Transient
from pilotis.ports import Blobs
from pilotis.testing.blobs import MemoryBlobs


@pytest.fixture(params=["memory", "folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "memory":
        return MemoryBlobs()
    return open_blobs(str(tmp_path / "blobs") if request.param == "folder" else request.getfixturevalue("bucket"))


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(bytes(range(256)) * 10_000)
    return path


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART + 12_345])
async def test_bytes_come_back_as_they_went(blobs: Blobs, tmp_path: Path, size: int) -> None:
    content = tmp_path / "content"
    content.write_bytes((bytes(range(251)) * (size // 251 + 1))[:size])
    digest, told = await blobs.put(content)
    assert (digest, told) == (hashlib.sha256(content.read_bytes()).hexdigest(), size)
    assert await blobs.exists(digest)
    assert await blobs.check(digest) == "whole"
    await blobs.fetch(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content.read_bytes()
    assert await blobs.put(content) == (digest, size)


async def test_deleting_twice(blobs: Blobs, content: Path, tmp_path: Path) -> None:
    digest, _ = await blobs.put(content)
    await blobs.delete(digest)
    await blobs.delete(digest)
    assert not await blobs.exists(digest)
    assert await blobs.check(digest) == "missing"
    with pytest.raises(Transient, match="missing"):
        await blobs.fetch(digest, tmp_path / "back")
    assert not (tmp_path / "back").exists()


async def test_bytes_are_unsettled_until_a_document_has_them(blobs: Blobs, content: Path) -> None:
    digest, _ = await blobs.put(content)
    assert await blobs.unsettled(older_than_s=0) == [digest]
    assert await blobs.unsettled(older_than_s=60) == []
    assert await blobs.settled(older_than_s=0) == []
    await blobs.settle(digest)
    await blobs.settle(digest)
    assert await blobs.unsettled(older_than_s=0) == []
    assert await blobs.settled(older_than_s=0) == [digest]
    assert await blobs.settled(older_than_s=60) == []
    await blobs.put(content)
    assert await blobs.unsettled(older_than_s=0) == [], "they are known"


async def test_deleted_bytes_are_not_unsettled(blobs: Blobs, content: Path) -> None:
    digest, _ = await blobs.put(content)
    await blobs.delete(digest)
    assert await blobs.unsettled(older_than_s=0) == []
