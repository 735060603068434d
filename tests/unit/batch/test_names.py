from __future__ import annotations

import pytest

from pilotis.batch.names import MAX_METADATA_BYTES, MAX_NAME, clean_collection, clean_metadata, clean_name
from pilotis.errors import Invalid


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("guide/intro.md", "guide/intro.md"),
        ("  spaced .md ", "spaced .md"),
        ("e\u0301te\u0301.pdf", "été.pdf"),
        ("日本語/資料.docx", "日本語/資料.docx"),
        ("/srv/ann/secret/plan.pdf", "plan.pdf"),
        ("C:\\Users\\ann\\plan.pdf", "plan.pdf"),
        ("\\\\server\\share\\plan.pdf", "plan.pdf"),
        ("../up.md", "../up.md"),
        ("a'; DROP TABLE document; --", "a'; DROP TABLE document; --"),
        ("n" * MAX_NAME, "n" * MAX_NAME),
    ],
)
def test_names_that_are_taken(given: str, cleaned: str) -> None:
    assert clean_name(given) == cleaned


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "is empty"),
        (" \t ", "is empty"),
        ("/", "is empty"),
        ("two\nlines", r"U\+000A at position 3"),
        ("nul\0", r"U\+0000"),
        ("bell\x07", r"U\+0007"),
        ("lone\ud800", r"U\+D800"),
        ("line\u2028break", r"U\+2028"),
        ("n" * (MAX_NAME + 1), "1,025 characters; the limit is 1,024"),
    ],
)
def test_names_that_are_refused(given: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        clean_name(given)
    assert refused.value.code == "invalid_name"
    str(refused.value).encode()  # can be shown anywhere


def test_a_collection_is_a_name_of_its_own() -> None:
    assert clean_collection(" handbook ") == "handbook"
    with pytest.raises(Invalid, match="the collection's name is empty"):
        clean_collection("")


@pytest.mark.parametrize(
    "given", [{}, {"team": "sales", "level": 3, "tags": ["a"], "deep": {"x": None}}, {"path": "C:\\u0000x"}]
)
def test_metadata_that_is_taken(given: dict[str, object]) -> None:
    assert clean_metadata(given) == given


def _nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": "\0"}, "NUL"),
        ({"\0": 1}, "NUL"),
        ({"x": "\ud800"}, "surrogates"),
        ({"x": float("nan")}, "JSON"),
        ({"x": {1, 2}}, "set"),
        ({"x": "y" * MAX_METADATA_BYTES}, "the limit is 16,384"),
        (_nested(100_000), "recursion"),
    ],
)
def test_metadata_that_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        clean_metadata(given)
