from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilotis.batch.difference import Listing, compare, held_because
from pilotis.batch.wanted import is_wanted
from pilotis.derive.origin import Origin
from pilotis.ports import Item, Known, Unlisted

ORIGIN = Origin(name="handbook", kind="folder", bu="north", collection="hb", path="x")


def known(key: str, **fields: Any) -> Known:
    given: dict[str, Any] = {"sha256": f"sha-{key}", "document_id": f"id-{key}", "validator": "v1", "state": "indexed"}
    return Known(key=key, name=key, bu="north", collection="hb", **(given | fields))


def listing(*items: Item | str, unlisted: tuple[str, ...] = ()) -> Listing:
    made = [item if isinstance(item, Item) else Item(key=item, validator="v1") for item in items]
    return Listing(items={item.key: item for item in made}, unlisted=[Unlisted(prefix=part, reason="") for part in unlisted])


def test_a_validator_that_is_known_spares_the_reading() -> None:
    brought = [
        known("same"),
        known("other", validator="v0"),
        known("unsure", validator=None),
        known("undone", document_id=None),
    ]
    found = compare(listing("same", "other", Item(key="unsure"), "undone", "new"), brought, ORIGIN, full=False)
    assert [each.key for each in found.unchanged] == ["same"]
    assert {item.key for item in found.to_read} == {"other", "unsure", "undone", "new"}
    assert not found.gone
    everything = compare(listing("same"), brought, ORIGIN, full=True)
    assert [item.key for item in everything.to_read] == ["same"]


def test_new_ones_come_first_then_those_looked_at_longest_ago() -> None:
    days = {"late": 3, "early": 1, "between": 2}
    brought = [known(key, validator=None, seen_at=datetime(2026, 11, day, tzinfo=UTC)) for key, day in days.items()]
    found = compare(listing(*days, "b-new", "a-new"), brought, ORIGIN, full=False)
    assert [item.key for item in found.to_read] == ["a-new", "b-new", "early", "between", "late"]


def test_what_lies_in_a_part_that_was_not_listed_is_not_gone() -> None:
    brought = [known("open/a"), known("closed/b"), known("closed-too")]
    assert set(compare(listing(unlisted=("closed/",)), brought, ORIGIN, full=False).gone) == {"open/a", "closed-too"}
    assert not compare(listing(unlisted=("",)), brought, ORIGIN, full=False).gone


def test_what_was_brought_to_another_place_is_lost_there() -> None:
    found = compare(listing("a"), [known("a"), Known(key="a", name="a", bu="south", collection="hb")], ORIGIN, full=False)
    assert [(each.bu, each.key) for each in found.lost()] == [("south", "a")]


def test_bytes_of_something_gone_are_taken_once() -> None:
    brought = [known("a", sha256="s"), known("b", sha256="s"), known("c", sha256="s", document_id=None)]
    found = compare(listing(), brought, ORIGIN, full=False)
    first, second = found.take_gone("s"), found.take_gone("s")
    assert first
    assert second
    assert {first.key, second.key} == {"a", "b"}
    assert found.take_gone("s") is None
    assert [each.key for each in found.lost()] == ["c"]
    found.give_back(first)
    assert len(found.lost()) == 2


@pytest.mark.parametrize(
    ("lost", "had", "listed", "incomplete", "allowed", "reason"),
    [
        (0, 10, 0, None, False, None),
        (5, 10, 5, None, False, None),
        (6, 10, 4, None, False, "6 of the 10"),
        (6, 10, 4, None, True, None),
        (1, 1, 0, None, False, "lists nothing"),
        (1, 10, 0, None, False, "lists nothing"),
        (10, 10, 0, None, True, None),
        (1, 10, 9, "it ended early", True, "ended early"),
    ],
)
def test_what_is_not_deleted_without_a_word(  # noqa: PLR0917 - the columns of a table
    lost: int, had: int, listed: int, incomplete: str | None, allowed: bool, reason: str | None
) -> None:
    said = held_because(lost=lost, had=had, listed=listed, incomplete=incomplete, allowed=allowed)
    assert (said is None) == (reason is None)
    assert reason is None or reason in str(said)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("a.md", True), ("sub/deep/a.pdf", True), ("README", True), ("photo.JPG", False), ("a.zip", False), (".env", False),
        (".git/config.md", False), ("node_modules/x/readme.md", False), ("line\nbreak.md", True), ("\udcff.md", True),
    ],
)  # fmt: skip
def test_what_a_folder_gives(key: str, wanted: bool) -> None:
    assert is_wanted(key, ORIGIN) is wanted


@pytest.mark.parametrize(
    ("include", "exclude", "key", "wanted"),
    [
        (("*.md",), (), "deep/a.md", True),
        (("*.md",), (), "a.txt", False),
        (("*.zip",), (), "a.zip", True),
        (("guides/*",), (), "guides/a/b.md", True),
        (("guides/*",), (), "other/b.md", False),
        ((), ("drafts/*",), "drafts/a.md", False),
        (("*.md",), ("draft-*",), "x/draft-1.md", False),
        (("*",), (), ".hidden.md", False),
    ],
)
def test_patterns(include: tuple[str, ...], exclude: tuple[str, ...], key: str, wanted: bool) -> None:
    assert is_wanted(key, Origin(name="x", kind="s3", include=include, exclude=exclude)) is wanted


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("https://x.org/", True), ("https://x.org/guide/start", True), ("https://x.org/logo.png?v=1", False),
        ("https://x.org/blog/a.html", False), ("https://x.org/.well-known/about.html", True),
    ],
)  # fmt: skip
def test_what_a_site_gives(key: str, wanted: bool) -> None:
    assert is_wanted(key, Origin(name="x", kind="web", exclude=("/blog/*",))) is wanted
