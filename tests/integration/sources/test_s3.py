"""A bucket of moto's server: listed, read, compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pilotis.adapters.sources import opener
from pilotis.adapters.sources.s3 import S3Source
from pilotis.derive.origin import Origin
from pilotis.errors import Invalid, NotFound, SetupError, Transient
from pilotis.ports import Item


def source(s3_url: str, **fields: Any) -> S3Source:
    origin = Origin(name="archive", kind="s3", **({"bucket": "docs", "endpoint_url": s3_url} | fields))
    made = opener(None)(origin)
    assert isinstance(made, S3Source)
    return made


async def listed(made: S3Source) -> dict[str, Item]:
    try:
        return {item.key: item async for item in made.items() if isinstance(item, Item)}
    finally:
        await made.close()


async def test_keys_below_the_prefix_are_listed_with_size_and_etag(s3: Any, s3_url: str) -> None:
    for key, body in {"hb/a.md": b"a", "hb/sub/b.md": b"bb", "hb/sub/": b"", "other/c.md": b"c", "hbx.md": b"d"}.items():
        s3.put_object(Bucket="docs", Key=key, Body=body)
    found = await listed(source(s3_url, prefix="hb/"))
    assert {key: item.size for key, item in found.items()} == {"a.md": 1, "sub/b.md": 2}
    etag = s3.head_object(Bucket="docs", Key="hb/a.md")["ETag"]
    assert found["a.md"].validator == etag
    assert set(await listed(source(s3_url, prefix="hb"))) == {"hb/a.md", "hb/sub/b.md", "hbx.md"}
    assert len(await listed(source(s3_url))) == 4
    assert await listed(source(s3_url, prefix="nothing/")) == {}


async def test_more_than_a_page_is_listed(s3: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotis.adapters.sources.s3.PAGE", 3)
    for n in range(7):
        s3.put_object(Bucket="docs", Key=f"{n}.md", Body=b"x")
    assert len(await listed(source(s3_url))) == 7


async def test_bytes_come_with_their_etag_and_type(s3: Any, s3_url: str, tmp_path: Path) -> None:
    s3.put_object(Bucket="docs", Key="hb/é à.html", Body="Häuser".encode(), ContentType="text/html; charset=utf-8")
    made = source(s3_url, prefix="hb/")
    (item,) = [item async for item in made.items() if isinstance(item, Item)]
    fetched = await made.fetch(item, tmp_path / "copy", known=None, most_bytes=100)
    assert fetched
    assert (fetched.validator, fetched.media_type) == (item.validator, "text/html")
    assert (tmp_path / "copy").read_text() == "Häuser"
    assert await made.fetch(item, tmp_path / "again", known=item.validator, most_bytes=100) is None
    assert not (tmp_path / "again").exists()
    with pytest.raises(Invalid, match="more than 3 bytes"):
        await made.fetch(item, tmp_path / "copy", known=None, most_bytes=3)
    await made.close()


async def test_what_changes_or_goes_after_listing_is_noticed(s3: Any, s3_url: str, tmp_path: Path) -> None:
    for key in ("a.md", "b.md"):
        s3.put_object(Bucket="docs", Key=key, Body=b"a")
    made = source(s3_url)
    items = {item.key: item async for item in made.items() if isinstance(item, Item)}
    s3.put_object(Bucket="docs", Key="a.md", Body=b"another")
    s3.delete_object(Bucket="docs", Key="b.md")
    with pytest.raises(Transient, match="changed while"):
        await made.fetch(items["a.md"], tmp_path / "copy", known=None, most_bytes=100)
    with pytest.raises(NotFound):
        await made.fetch(items["b.md"], tmp_path / "copy", known=None, most_bytes=100)
    await made.close()


async def test_a_bucket_that_is_not_there(s3: Any, s3_url: str) -> None:
    with pytest.raises(SetupError, match="no such bucket") as raised:
        await listed(source(s3_url, bucket="nobodys-bucket"))
    assert raised.value.remedy == "correct bucket in the contract"


async def test_a_server_that_is_away(s3: Any) -> None:
    with pytest.raises(Transient, match="cannot be reached") as raised:
        await listed(source("http://127.0.0.1:9"))
    assert "127.0.0.1" not in raised.value.message.partition(": ")[0]


async def test_without_credentials(s3: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SetupError, match="no credentials") as raised:
        await listed(source(s3_url))
    assert "AWS_ACCESS_KEY_ID" in raised.value.remedy


async def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SetupError) as raised:
        source("http://127.0.0.1:9")
    assert raised.value.remedy == "pip install 'pilotis[s3]'"
