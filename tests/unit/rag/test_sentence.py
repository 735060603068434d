from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.rag.sentence import sentences


def split(text: str, language: str = "fr") -> list[str]:
    return [text[start:end] for start, end in sentences(text, language)]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("fr", ["M. Dupont habite au 3 rue Neuve.", "Il part, p. ex. à Paris."]),
        ("fr", ["Cf. art. 5 du code civil.", "Voir aussi l'art. 6."]),
        ("fr", ["Il dit : « Bonjour ! »", "Puis il part."]),
        ("fr", ["Le prix est de 3.14 euros.", "C'est cher…", "Non ?"]),
        ("en", ["Dr. Smith paid $3.14 to J. R. Tolkien, e.g. in cash.", "Why?!", "He (really.) did."]),
        ("en", ["See https://a.b/c.d?e=1. f for more.", "Done."]),
        ("en", ["He said “Stop.”", "Nobody moved."]),
        ("en", ["It was... nothing.", "Next"]),
    ],
)
def test_prose(language: str, expected: list[str]) -> None:
    assert split(" ".join(expected), language) == expected


def test_markdown() -> None:
    text = "# Head. ing\nText goes\non here. More.\n\n- item one. Two\n- item two\n2. Second\n| a | b. c |\n| d | e |\n\n```py\nx = 1. \n\ny\n```\nEnd."
    assert split(text) == [
        "# Head. ing", "Text goes\non here.", "More.", "- item one.", "Two", "- item two", "2. Second", "| a | b. c |", "| d | e |",
        "```py\nx = 1. \n\ny\n```", "End.",
    ]  # fmt: skip


@given(st.text(alphabet="aB.!? \n«»-#`|\u00a0é1", max_size=200), st.sampled_from(["en", "fr", "de"]))
def test_spans_hold_every_visible_character_once(text: str, language: str) -> None:
    spans = sentences(text, language)
    covered = [index for start, end in spans for index in range(start, end)]
    assert covered == sorted(set(covered))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= set(covered)
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)
