from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.errors import Invalid
from pilotis.rag.question import MAX_CHARACTERS, check_characters, normalise, parse

BOTH = ("en", "fr")


def test_a_question_is_put_in_one_form() -> None:
    question = parse("  Où  est\tl’E\u0301tat ?\n", languages=BOTH)
    assert question.text == "Où est l’État ?"
    assert question.normalised == "où est l'état"
    assert question.language == "fr"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is RAG?", "what is rag"),
        ("Quelle est la règle ?", "QUELLE EST LA RÈGLE !"),
        ("l'accès", "l’accès"),
        ("ﬁle size…", "file size"),
        ("Straße", "STRASSE"),
    ],
)
def test_the_same_question_has_one_key(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), [("C#", "C"), ("port 80", "port 8080"), ("accès", "acces"), ("-v", "v")])
def test_different_questions_keep_different_keys(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("text", ["", "   ", "\n\t\u00a0", "?!…", "\u200b"])
def test_nothing_asked(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, languages=BOTH)
    assert (caught.value.status, caught.value.code) == (422, "empty_question")


def test_too_long_names_both_figures() -> None:
    parse("x" * MAX_CHARACTERS, languages=BOTH)
    with pytest.raises(Invalid, match=r"1,000,000 characters; the limit is 4,000") as caught:
        parse("x" * 1_000_000, languages=BOTH)
    assert (caught.value.status, caught.value.code) == (413, "question_too_long")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ab\0c", "NUL character at position 2"),
        ("a\ud83d", r"lone surrogate \(U\+D83D\) at position 1"),
        ("\udc00?", "position 0"),
    ],
)
def test_characters_that_are_no_text_are_named_with_their_place(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        parse(text, languages=BOTH)
    assert (caught.value.status, caught.value.code) == (422, "invalid_character")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_a_question_is_clean_or_refused(text: str) -> None:
    try:
        question = parse(text, languages=BOTH)
    except Invalid:
        return
    assert question.text == " ".join(question.text.split())
    assert unicodedata.is_normalized("NFC", question.text)
    assert parse(question.text, languages=BOTH) == question
    assert normalise(question.normalised) == question.normalised
    question.text.encode()


@given(st.text(max_size=50))
def test_only_what_utf8_and_the_database_carry_is_let_through(text: str) -> None:
    try:
        check_characters(text, "it")
    except Invalid:
        assert "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    else:
        assert "\0" not in text.encode().decode()
