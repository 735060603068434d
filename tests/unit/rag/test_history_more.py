"""Three words may be a question of their own."""

from __future__ import annotations

import pytest

from pilotis.rag.history import is_follow_up


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
