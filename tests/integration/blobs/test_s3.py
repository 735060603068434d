"""What a bucket does besides what `ports.Blobs` promises: what arrives otherwise than it was sent, what stops half-way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotis.adapters.blobs.s3 import PART, S3Blobs
from pilotis.errors import SetupError, Transient


@pytest.fixture
def blobs(bucket: str) -> Iterator[S3Blobs]:
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    opened = S3Blobs(name, prefix)
    yield opened
    assert "Uploads" not in opened._client.list_multipart_uploads(Bucket=name), "parts that belong to nothing cost money"


@pytest.fixture(params=[1000, PART + 1000], ids=["short", "long"])
def content(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(b"x" * request.param)
    return path


def change(blobs: S3Blobs, verb: str, change: Callable[[dict[str, Any], Callable[..., Any]], Any]) -> None:
    """Let `change` make the call of this verb."""
    before = getattr(blobs._client, verb)
    setattr(blobs._client, verb, lambda **fields: change(fields, before))


def spoil(fields: dict[str, Any], call: Callable[..., Any]) -> Any:
    """As a server does that stores other bytes and checks nothing."""
    if not fields["Body"]:
        return call(**fields)
    body = b"y" + fields["Body"][1:]
    told = {name: value for name, value in fields.items() if not name.startswith("Checksum")}
    return call(**told | {"Body": body})


def keep_silent(fields: dict[str, Any], call: Callable[..., Any]) -> Any:
    """As a server does that knows no checksums."""
    return {name: value for name, value in call(**fields).items() if not name.startswith("Checksum")}


async def test_what_arrived_otherwise_is_found_out_and_does_not_stay(blobs: S3Blobs, content: Path) -> None:
    for verb in ("put_object", "upload_part"):
        change(blobs, verb, spoil)
    with pytest.raises(Transient):
        await blobs.put(content)
    assert await blobs.settled(older_than_s=0) == []
    (digest,) = await blobs.unsettled(older_than_s=0)
    assert not await blobs.exists(digest)


async def test_a_server_that_confirms_nothing_is_read_back(blobs: S3Blobs, content: Path) -> None:
    read: list[str] = []
    for verb in ("put_object", "upload_part"):
        change(blobs, verb, keep_silent)

    def note(fields: dict[str, Any], call: Callable[..., Any]) -> Any:
        read.append(fields["Key"])
        return call(**fields)

    change(blobs, "get_object", note)
    digest, _ = await blobs.put(content)
    assert len(read) == 1
    assert await blobs.check(digest) == "whole"


async def test_a_file_that_changes_while_it_is_sent(blobs: S3Blobs, tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"x" * (PART + 1000))

    def changing(fields: dict[str, Any], call: Callable[..., Any]) -> Any:
        with path.open("r+b") as file:
            file.seek(PART)
            file.write(b"y")
        return call(**fields)

    change(blobs, "create_multipart_upload", changing)
    with pytest.raises(Transient, match="the file changed while it was read"):
        await blobs.put(path)
    assert await blobs.settled(older_than_s=0) == []


async def test_a_part_that_fails_is_given_up_with_all_others(blobs: S3Blobs, tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"x" * (2 * PART + 1))

    def second_fails(fields: dict[str, Any], call: Callable[..., Any]) -> Any:
        if fields["PartNumber"] == 2:
            raise KeyboardInterrupt
        return call(**fields)

    change(blobs, "upload_part", second_fails)
    with pytest.raises(KeyboardInterrupt):
        blobs._put(path)


async def test_damaged_bytes_are_told_from_missing_ones(blobs: S3Blobs, content: Path, tmp_path: Path) -> None:
    digest, _ = await blobs.put(content)
    key = f"{blobs._prefix}{digest[:2]}/{digest[2:]}"
    blobs._client.put_object(Bucket=blobs._bucket, Key=key, Body=b"rotten")
    assert await blobs.check(digest) == "damaged"
    await blobs.fetch(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"rotten", "a snapshot reads it, and says so"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
async def test_no_room_for_the_copy(blobs: S3Blobs, content: Path) -> None:
    digest, _ = await blobs.put(content)
    with pytest.raises(Transient, match="the disk is full"):
        await blobs.fetch(digest, Path("/dev/full"))


async def test_more_than_a_page_is_listed(blobs: S3Blobs) -> None:
    for n in range(1005):
        blobs._client.put_object(Bucket=blobs._bucket, Key=f"{blobs._prefix}unsettled/{n:064x}", Body=b"")
    assert len(await blobs.unsettled(older_than_s=0)) == 1005


async def test_a_server_that_is_away_is_transient_and_a_wrong_bucket_is_not(content: Path, s3: str, bucket: str) -> None:
    with pytest.raises(Transient, match="cannot be reached"):
        await S3Blobs("some-bucket", "", endpoint="http://127.0.0.1:1").put(content)
    with pytest.raises(SetupError, match="NoSuchBucket"):
        await S3Blobs("no-such-bucket", "").put(content)
