"""A thorough look at bytes and caches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

from pilotis.batch.checkup import Finding, look
from pilotis.ports import Cache, Query
from pilotis.ports.checkup import Looked
from pilotis.testing.blobs import MemoryBlobs


class Database:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.digests: dict[str, bool] = {}
        self.ids: set[str] = set()

    def questions(self) -> Sequence[str]:
        return ["drafts_left"]

    async def ask(self, check: str) -> Looked:
        return Looked(check=check, of=7, count=2, examples=("x", "y"))

    async def blobs(self) -> Mapping[str, bool]:
        return dict(self.digests)

    async def sample(self, count: int) -> Sequence[tuple[Query, str]]:
        raise NotImplementedError

    async def known(self, document_ids: Collection[str]) -> Collection[str]:
        return self.ids & set(document_ids)


class Cached:
    """Serves what was made from these, the first time and the second."""

    def __init__(self, *times: set[str]) -> None:
        self._times = list(times)

    async def sources(self) -> Collection[str]:
        return self._times.pop(0) if len(self._times) > 1 else self._times[0]


class Shelf(MemoryBlobs):
    async def settled(self, *, older_than_s: float) -> Sequence[str]:
        assert older_than_s == 3600
        return await super().settled(older_than_s=0)


async def stored(blobs: MemoryBlobs, folder: Path, content: bytes, *, settle: bool = True) -> str:
    (folder / "content").write_bytes(content)
    digest, _ = await blobs.put(folder / "content")
    if settle:
        await blobs.settle(digest)
    return digest


async def findings(database: Database, blobs: MemoryBlobs, cache: Cached) -> dict[str, Finding]:
    return {each.check: each async for each in look(database, blobs, cast("Cache", cache))}


async def test_bytes_are_held_against_the_documents(tmp_path: Path) -> None:
    database, blobs = Database(), Shelf()
    whole, damaged, waiting, left, arriving = [
        await stored(blobs, tmp_path, name.encode(), settle=name != "arriving")
        for name in ("whole", "damaged", "waiting", "left", "arriving")
    ]
    blobs.contents[damaged] = b"rotten"
    database.digests = {whole: True, damaged: True, "gone": True, waiting: False}
    found = await findings(database, blobs, Cached(set()))
    assert {name: (each.count, each.examples, each.state) for name, each in found.items() if name.startswith("blobs")} == {
        "blobs_missing": (1, ("gone",), "error"),
        "blobs_damaged": (1, (damaged,), "error"),
        "blobs_left": (1, (left,), "error"),
        "blobs_waiting": (1, (waiting,), "warning"),
    }
    assert arriving not in str(found)
    assert (found["drafts_left"].of, found["drafts_left"].count, found["drafts_left"].state) == (7, 2, "error")


async def test_answers_made_from_documents_that_are_gone_are_found() -> None:
    database = Database()
    database.ids = {"there"}
    found = await findings(database, Shelf(), Cached({"there", "gone", "forgotten just now"}, {"there", "gone"}))
    assert found["cached_without_document"].examples == ("gone",)
    found = await findings(database, Shelf(), Cached({"there"}))
    assert (found["cached_without_document"].state, found["cached_without_document"].of) == ("ok", 1)
