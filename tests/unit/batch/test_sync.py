"""The road of a source, over fakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.adapters.kreuzberg import media_type
from pilotis.batch import lead
from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import forget, parse_waiting
from pilotis.batch.sync import MOST_IN_A_ROW, Order, sync, sync_due
from pilotis.batch.sync_report import MOST_NAMED, Report
from pilotis.derive.origin import Origin
from pilotis.errors import Conflict, NotFound, Permanent, SetupError, Transient
from pilotis.ports import Unlisted
from pilotis.testing.sources import MemorySource

if TYPE_CHECKING:
    from unit.batch.conftest import Town

ORIGIN = Origin(name="handbook", kind="folder", bu="north", collection="hb", path="x")


class Killed(BaseException):
    """What nobody catches."""


def source(n: int = 4, **more: str) -> MemorySource:
    return MemorySource(**{f"{i}.md": f"# Report {i}\n\nNumber {i} is about tolls." for i in range(n)}, **more)


async def run(town: Town, made: MemorySource, origin: Origin = ORIGIN, **order: Any) -> Report:
    sources = order.pop("sources", ("handbook", "other"))
    report = await sync(
        Order(origin=origin, sources=sources, **order), town.env, town.deps, open_source=lambda _: made, guess=media_type
    )
    assert report
    return report


async def indexed(town: Town) -> None:
    await parse_waiting(town.env, town.deps)
    await embed_waiting(town.plan, town.env, town.deps)


async def names(town: Town, bu: str = "north") -> dict[str, str]:
    """Name -> id."""
    return {document.name: document.id for document in await town.documents.find(bu, limit=1000)}


def counts(report: Report) -> dict[str, int]:
    return {fate: count for fate, count in report.counts.items() if count}


async def test_new_changed_deleted_and_unchanged(town: Town) -> None:
    made = source()
    assert counts(await run(town, made)) == {"new": 4}
    assert set(await names(town)) == {"0.md", "1.md", "2.md", "3.md"}
    made.read.clear()
    assert counts(await run(town, made)) == {"unchanged": 4}
    assert made.read == [], "what did not change is not read"
    made.files["0.md"] = b"# Report 0\n\nAnother text."
    del made.files["1.md"]
    made.files["4.md"] = b"# Report 4"
    report = await run(town, made)
    assert counts(report) == {"new": 1, "changed": 1, "deleted": 1, "unchanged": 2}
    assert made.read == ["4.md", "0.md"]
    assert set(await names(town)) == {"0.md", "2.md", "3.md", "4.md"}
    assert made.closed == 3
    assert report.named["deleted"] == [("1.md", "")]
    assert report.is_clean


async def test_a_moved_document_keeps_its_id_and_its_vectors(town: Town) -> None:
    made = source()
    await run(town, made)
    await indexed(town)
    before, embedded = await names(town), len(town.embedder.embedded)
    made.files["sub/elsewhere.md"] = made.files.pop("1.md")
    report = await run(town, made)
    assert counts(report) == {"moved": 1, "unchanged": 3}
    assert report.named["moved"] == [("sub/elsewhere.md", "from 1.md")]
    after = await names(town)
    assert after["sub/elsewhere.md"] == before["1.md"]
    assert "1.md" not in after
    await indexed(town)
    assert len(town.embedder.embedded) == embedded, "nothing is embedded again"
    assert counts(await run(town, made)) == {"unchanged": 4}


async def test_a_file_that_is_read_differently_under_its_new_name_is_parsed_again(town: Town) -> None:
    made = source()
    await run(town, made)
    await indexed(town)
    embedded = len(town.embedder.embedded)
    made.files["1.csv"] = made.files.pop("1.md")
    assert counts(await run(town, made)) == {"moved": 1, "unchanged": 3}
    await indexed(town)
    assert town.parser.media_types["1.csv"] == "text/csv"
    assert len(town.embedder.embedded) == embedded


async def test_a_folder_that_was_renamed_is_moved_and_not_lost(town: Town) -> None:
    made = MemorySource(**{f"old/{i}.md": f"text {i}" for i in range(10)})
    await run(town, made)
    made.files = {f"new/{i}.md": f"text {i}".encode() for i in range(10)}
    report = await run(town, made)
    assert counts(report) == {"moved": 10}
    assert report.held == 0


async def test_a_file_that_was_copied_is_new(town: Town) -> None:
    made = source(2)
    await run(town, made)
    made.files["copy.md"] = made.files["0.md"]
    assert counts(await run(town, made)) == {"new": 1, "unchanged": 2}


async def test_a_source_that_is_suddenly_empty_deletes_nothing_until_somebody_says_so(town: Town) -> None:
    made = source()
    await run(town, made)
    made.files.clear()
    report = await run(town, made)
    assert counts(report) == {}
    assert (report.held, report.held_because) == (4, "the source lists nothing any more, and brought 4 before")
    assert not report.is_clean
    assert len(await names(town)) == 4
    would = await run(town, made, allow_deletes=True, dry_run=True)
    assert counts(would) == {"deleted": 4}
    assert len(await names(town)) == 4
    assert counts(await run(town, made, allow_deletes=True)) == {"deleted": 4}
    assert await names(town) == {}
    assert (await run(town, made)).held == 0


async def test_more_than_half_is_held_and_half_is_deleted(town: Town) -> None:
    made = source()
    await run(town, made)
    for gone in ("0.md", "1.md", "2.md"):
        del made.files[gone]
    report = await run(town, made)
    assert (report.held, counts(report)) == (3, {"unchanged": 1})
    made.files["0.md"] = b"back"
    assert counts(await run(town, made)) == {"changed": 1, "deleted": 2, "unchanged": 1}


async def test_a_source_that_is_away_changes_nothing(town: Town) -> None:
    made = source()
    await run(town, made)
    made.files.clear()
    for away in (Transient("the folder cannot be read"), SetupError("no credentials")):
        made.away = away
        report = await run(town, made, allow_deletes=True)
        assert report.error == str(away)
        assert not report.is_clean
    assert len(await names(town)) == 4


async def test_a_part_that_could_not_be_listed_is_left_alone(town: Town) -> None:
    made = MemorySource(**{"open/a.md": "a", "open/b.md": "b", "open/c.md": "c", "closed/d.md": "d"})
    await run(town, made)
    del made.files["closed/d.md"], made.files["open/a.md"]
    made.unlisted = [Unlisted(prefix="closed/", reason="Permission denied")]
    report = await run(town, made)
    assert counts(report) == {"unchanged": 2, "deleted": 1}
    assert report.unlisted == [("closed/", "Permission denied")]
    assert not report.is_clean
    assert set(await names(town)) == {"open/b.md", "open/c.md", "closed/d.md"}


async def test_more_than_the_contract_allows_is_said_and_deletes_nothing(town: Town) -> None:
    made = source()
    await run(town, made)
    made.files = {f"{i}.md": b"x" for i in range(50, 60)}
    report = await run(town, made, replace(ORIGIN, max_files=3), allow_deletes=True)
    assert counts(report) == {"new": 3}
    assert "max_files = 3" in report.unlisted[0][1]
    assert len(await names(town)) == 7


async def test_one_file_that_fails_does_not_stop_the_others(town: Town) -> None:
    made = source(6)
    made.files |= {"two\nlines.md": b"x", "\udcff.md": b"x", "empty.md": b"", "huge.md": b"x" * 2000}
    made.failures = {
        "0.md": Permanent("is a symbolic link"),
        "1.md": PermissionError(13, "Permission denied"),
        "2.md": RuntimeError("a bug"),
        "3.md": Transient("changed while read"),
    }
    town_small = replace(town, env=replace(town.env, max_file_bytes=1000))
    report = await run(town_small, made)
    assert counts(report) == {"new": 2, "failed": 8}
    reasons = dict(report.named["failed"])
    assert reasons["1.md"] == "Permission denied"
    assert reasons["2.md"] == "unexpected RuntimeError: a bug"
    assert "U+000A" in reasons["two\nlines.md"]
    assert reasons["\\udcff.md"].startswith("the document's name holds U+DCFF")
    assert "is empty" in reasons["empty.md"]
    assert "2,000 bytes; the limit is 1,000" in reasons["huge.md"]
    assert not {"empty.md", "huge.md", "two\nlines.md"} & set(made.read), "what cannot be taken is not read"
    assert set(await names(town)) == {"4.md", "5.md"}
    assert report.error is None


async def test_a_file_that_cannot_be_read_now_stays_as_it_is(town: Town) -> None:
    made = source()
    await run(town, made)
    made.files["0.md"] = b"another text"
    made.failures["0.md"] = PermissionError(13, "Permission denied")
    assert counts(await run(town, made)) == {"unchanged": 3, "failed": 1}
    assert len(await names(town)) == 4


async def test_what_vanishes_between_listing_and_reading_is_gone(town: Town) -> None:
    made = source()
    await run(town, made)
    made.files["0.md"] = b"another text"
    made.files["new.md"] = b"new"
    made.failures = {"0.md": NotFound("it is gone"), "new.md": NotFound("it is gone")}
    report = await run(town, made)
    assert counts(report) == {"unchanged": 3, "deleted": 1, "failed": 1}
    assert set(await names(town)) == {"1.md", "2.md", "3.md"}


@pytest.mark.parametrize("error", [Transient("the server is away"), SetupError("the bucket refuses its credentials")])
async def test_many_in_a_row_that_cannot_be_had_end_the_run(town: Town, error: Exception) -> None:
    made = source(40)
    made.failures = dict.fromkeys(made.files, error)
    report = await run(town, made)
    assert report.error
    assert report.error.startswith(f"given up after {MOST_IN_A_ROW} in a row")
    assert report.left + report.counts["failed"] == 40
    assert len(made.read) <= MOST_IN_A_ROW + made.at_once


async def test_a_run_whose_bytes_are_up_goes_on_the_next_time(town: Town) -> None:
    made = source(6)
    small = replace(ORIGIN, max_bytes=60)
    done = 0
    for _ in range(6):
        report = await run(town, made, small)
        done += report.counts["new"]
        if not report.left:
            break
        assert report.counts["deleted"] == 0
    assert (done, report.left) == (6, 0)


async def test_a_run_that_was_cut_short_deletes_nothing(town: Town) -> None:
    made = source()
    await run(town, made)
    made.files = {"1.md": made.files["1.md"], "2.md": made.files["2.md"], "x.md": b"x" * 50, "y.md": b"y", "z.md": b"z"}
    report = await run(town, made, replace(ORIGIN, max_bytes=1), allow_deletes=True)
    assert report.held == 2
    assert report.left >= 1
    assert "0.md" in await names(town)


async def test_without_validators_everything_is_read_and_nothing_taken_twice(town: Town) -> None:
    made = source()
    made.trusted = False
    await run(town, made)
    town.queue.nudges.clear()
    made.read.clear()
    assert counts(await run(town, made)) == {"unchanged": 4}
    assert len(made.read) == 4
    assert town.queue.nudges == []


async def test_full_reads_everything_and_tries_again_what_failed(town: Town) -> None:
    made = source()
    await run(town, made)
    town.parser.failures["1.md"] = Permanent("broken")
    await indexed(town)
    assert (await town.documents.counts("north"))["failed"] == 1
    town.parser.failures.clear()
    made.read.clear()
    assert counts(await run(town, made, full=True)) == {"unchanged": 4}
    assert len(made.read) == 4
    await indexed(town)
    assert await town.documents.counts("north") == {"indexed": 4}


async def test_full_marks_documents_as_the_contract_says_now(town: Town) -> None:
    made = source(1)
    await run(town, made)
    await run(town, made, replace(ORIGIN, metadata={"team": "sales"}), full=True)
    (document,) = await town.documents.find("north")
    assert document.metadata == {"team": "sales"}


async def test_a_dry_run_tells_and_changes_nothing(town: Town) -> None:
    made = source()
    await run(town, made)
    before = dict(await names(town))
    rows = await town.deps.source_items.known("handbook")
    made.files["0.md"] = b"# Report 0\n\nAnother text."
    made.files["moved.md"] = made.files.pop("1.md")
    made.files["new.md"] = b"new"
    del made.files["2.md"]
    report = await run(town, made, dry_run=True)
    assert counts(report) == {"new": 1, "changed": 1, "moved": 1, "deleted": 1, "unchanged": 1}
    assert await names(town) == before
    assert await town.deps.source_items.known("handbook") == rows
    assert counts(await run(town, made)) == counts(report)


async def test_a_document_that_was_deleted_by_hand_comes_back(town: Town) -> None:
    made = source(2)
    await run(town, made)
    await forget((await names(town))["0.md"], town.deps, bu="north")
    assert counts(await run(town, made)) == {"new": 1, "unchanged": 1}
    assert set(await names(town)) == {"0.md", "1.md"}


async def test_a_document_that_was_there_before_is_not_deleted_with_the_source(town: Town) -> None:
    sent, _ = await town.send("0.md", "# Report 0\n\nNumber 0 is about tolls.", bu="north")
    origin = replace(ORIGIN, collection="default")
    made = source(3)
    assert counts(await run(town, made, origin)) == {"new": 2, "unchanged": 1}
    del made.files["0.md"]
    report = await run(town, made, origin)
    assert counts(report) == {"kept": 1, "unchanged": 2}
    assert (await names(town))["0.md"] == sent.id


async def test_a_document_that_the_source_replaced_is_its_own(town: Town) -> None:
    await town.send("0.md", "an older text", bu="north")
    origin = replace(ORIGIN, collection="default")
    made = source(3)
    assert counts(await run(town, made, origin)) == {"new": 2, "changed": 1}
    del made.files["0.md"]
    assert counts(await run(town, made, origin)) == {"deleted": 1, "unchanged": 2}


async def test_two_sources_with_the_same_name_of_a_document(town: Town) -> None:
    await run(town, source(2))
    report = await run(town, source(3), replace(ORIGIN, name="other"))
    assert counts(report) == {"new": 1, "failed": 2}
    assert "source handbook" in report.named["failed"][0][1]


async def test_a_source_that_was_renamed_takes_over_what_the_old_name_brought(town: Town) -> None:
    made = source()
    await run(town, made)
    renamed = replace(ORIGIN, name="manual")
    assert counts(await run(town, made, renamed, sources=["manual"])) == {"unchanged": 4}
    del made.files["0.md"]
    assert counts(await run(town, made, renamed, sources=["manual"])) == {"deleted": 1, "unchanged": 3}


async def test_a_source_that_goes_to_another_collection_asks_before_it_deletes_the_old_one(town: Town) -> None:
    made = source(2)
    await run(town, made)
    moved = replace(ORIGIN, collection="other")
    report = await run(town, made, moved)
    assert (counts(report), report.held) == ({"new": 2}, 2)
    assert counts(await run(town, made, moved, allow_deletes=True)) == {"unchanged": 2, "deleted": 2}
    assert await town.documents.collections("north") == {"other": 2}


async def test_killed_between_registering_and_noting_it_knows_its_document(town: Town) -> None:
    made = source(3)
    items: Any = town.deps.source_items
    keep = items.keep
    kept: list[str] = []

    async def dies(name: str, item: Any) -> None:
        if len(kept) == 1:
            raise Killed
        kept.append(item.key)
        await keep(name, item)

    items.keep = dies
    made.at_once = 1
    with pytest.raises(Killed):
        await run(town, made)
    items.keep = keep
    del made.files["1.md"]  # registered, and not noted
    assert set(await names(town)) == {"0.md", "1.md"}
    assert counts(await run(town, made)) == {"new": 1, "unchanged": 1, "deleted": 1}
    assert set(await names(town)) == {"0.md", "2.md"}


async def test_one_at_a_time(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "LEASE_S", 0.4)
    monkeypatch.setattr(lead, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lead, "POLL_S", 0.005)
    gate = asyncio.Event()
    slow = source(1)
    fetch = slow.fetch

    async def waits(*args: Any, **more: Any) -> Any:
        await gate.wait()
        return await fetch(*args, **more)

    slow.fetch = waits  # type: ignore[method-assign]
    first = asyncio.create_task(run(town, slow))
    await asyncio.sleep(0.01)
    with pytest.raises(Conflict, match="another process"):
        await run(town, source(1))
    gate.set()
    assert counts(await first) == {"new": 1}
    assert counts(await run(town, source(1))) == {"unchanged": 1}


async def test_who_lost_its_source_ends_and_deletes_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "HEARTBEAT_S", 0.002)
    made = source()
    await run(town, made)
    items: Any = town.deps.source_items

    async def lost(*_: Any, **__: Any) -> bool:
        return False

    items.renew = lost
    fetch = made.fetch

    async def slow(*args: Any, **more: Any) -> Any:
        await asyncio.sleep(0.02)
        return await fetch(*args, **more)

    made.fetch = slow  # type: ignore[method-assign]
    del made.files["0.md"]
    made.files |= {"x.md": b"x"}
    report = await run(town, made)
    assert report.error == "another process took it over"
    assert report.held == 1
    assert "0.md" in await names(town)


async def test_the_schedule_is_kept_by_whoever_looks(town: Town) -> None:
    made = source(2)
    origins = {"handbook": replace(ORIGIN, every_s=3600.0), "by-hand": replace(ORIGIN, name="by-hand", collection="y")}
    origins["elsewhere"] = replace(ORIGIN, name="elsewhere", every_s=60.0, envs=("prod",))
    plan = replace(town.plan, sources=origins)

    async def look() -> list[Report]:
        return list(await sync_due(plan, town.env, town.deps, open_source=lambda _: made, guess=media_type))

    several = await asyncio.gather(*(look() for _ in range(4)))
    assert [[report.source for report in found] for found in several if found] == [["handbook"]]
    assert await look() == []
    items: Any = town.deps.source_items
    items._runs["handbook"].began -= 3601
    assert [counts(report) for report in await look()] == [{"unchanged": 2}]


async def test_what_is_told_is_bounded_and_can_be_stored(town: Town) -> None:
    made = MemorySource(**{f"{i}\0.md": "x" for i in range(MOST_NAMED + 50)})
    report = await run(town, made)
    record = report.record()
    assert record["failed"] == MOST_NAMED + 50
    assert len(record["names"]["failed"]) == MOST_NAMED
    assert "\0" not in str(record)
    (stored,) = await town.deps.source_items.runs()
    assert stored.report["failed"] == MOST_NAMED + 50
