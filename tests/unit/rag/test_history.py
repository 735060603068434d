"""Which question a conversation asks."""

from __future__ import annotations

import pytest

from pilotis.errors import Invalid
from pilotis.rag.history import follow, is_follow_up
from pilotis.rag.question import MAX_CHARACTERS

FIRST = ("user", "How do I rotate an API key in production?")
SAID = ("assistant", "Create the new key first. [1]")


@pytest.mark.parametrize(
    "text",
    [
        *("Why?", "In staging ?", "And how long does the old one stay valid?", "what about the keys of an operator?"),
        *("How long does it take?", "Et combien de temps cela prend-il ?", "mais pourquoi ?", "Quid de la France ?"),
    ],
)
def test_a_question_that_needs_the_one_before(text: str) -> None:
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    [
        *("How do I rotate an API key?", "Combien de jours avant le départ faut-il poser ses congés ?"),
        *("Android phones are supported since which release?", "Is it possible to give a key its own budget?"),
        "And then, in the third chapter of the handbook, which of the rules about travelling was meant for contractors?",
    ],
)
def test_a_question_that_stands_by_itself(text: str) -> None:
    assert not is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    ["What is Redis?", "Who is Ada?", "What's a lease?", "Qui est Ada ?", "C'est quoi Redis ?", "Define idempotency precisely"],
)
def test_a_question_of_its_own_is_no_follow_up(text: str) -> None:
    assert not is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    ["What is it?", "And in French?", "What about Redis?", "Why?", "In production?", "And what is Redis?", "Explain them"],
)
def test_what_leans_on_something_is(text: str) -> None:
    assert is_follow_up(text)


def test_one_turn_is_the_question_and_has_no_history() -> None:
    assert follow([("user", "Why?")]) == ("Why?", ())


def test_a_question_of_its_own_is_left_alone_and_the_turns_before_are_history() -> None:
    assert follow([FIRST, SAID, ("user", "Who approves a business trip to France?")]) == (
        "Who approves a business trip to France?",
        (FIRST, ("assistant", "Create the new key first.")),
    )


def test_a_follow_up_of_a_follow_up_goes_back_to_the_question_that_stands_by_itself() -> None:
    older = ("user", "Who approves a business trip to France?")
    question, history = follow([older, SAID, FIRST, SAID, ("user", "And in staging?"), SAID, ("user", "Why?")])
    assert question == f"{FIRST[1]}\nAnd in staging?\nWhy?"
    assert len(history) == 6


def test_no_more_is_put_before_it_than_a_question_may_have() -> None:
    long = ("user", "word " * (MAX_CHARACTERS // 5))
    assert follow([long, SAID, ("user", "Why?")])[0] == "Why?"


def test_what_stands_behind_the_question_is_left_out() -> None:
    assert follow([FIRST, ("assistant", "Create")]) == (FIRST[1], ())


def test_a_conversation_without_a_user_asks_nothing() -> None:
    with pytest.raises(Invalid, match="no message has the role 'user'"):
        follow([SAID])
