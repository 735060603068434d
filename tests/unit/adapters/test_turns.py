"""Who goes first on the model's thread."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pilotis.adapters.onnx.turns import Turns, Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def turns() -> Iterator[Turns]:
    opened = Turns("test")
    yield opened
    opened.close()


def blocked(turns: Turns) -> threading.Event:
    """Occupy the thread until the event is set."""
    running, go = threading.Event(), threading.Event()

    def wait() -> None:
        running.set()
        go.wait(5)

    turns.submit(Urgency.BATCH, wait)
    assert running.wait(5)
    return go


def test_a_question_overtakes_what_waits_and_equals_keep_their_order(turns: Turns) -> None:
    go, done = blocked(turns), list[str]()
    jobs = [
        turns.submit(urgency, partial(done.append, name))
        for urgency, name in [(Urgency.BATCH, "b1"), (Urgency.BATCH, "b2"), (Urgency.QUESTION, "q1"), (Urgency.QUESTION, "q2")]
    ]
    go.set()
    for job in jobs:
        job.result(5)
    assert done == ["q1", "q2", "b1", "b2"]


def test_a_cancelled_job_never_runs(turns: Turns) -> None:
    go, done = blocked(turns), list[str]()
    left = turns.submit(Urgency.BATCH, lambda: done.append("left"))
    kept = turns.submit(Urgency.BATCH, lambda: done.append("kept"))
    assert left.cancel()
    go.set()
    kept.result(5)
    assert done == ["kept"]


def test_an_error_goes_to_its_caller_and_the_thread_goes_on(turns: Turns) -> None:
    with pytest.raises(ZeroDivisionError):
        turns.submit(Urgency.QUESTION, lambda: 1 / 0).result(5)
    assert turns.submit(Urgency.QUESTION, lambda: 7).result(5) == 7


def test_close_cancels_what_waits_and_is_harmless_twice(turns: Turns) -> None:
    go = blocked(turns)
    waiting = turns.submit(Urgency.BATCH, lambda: 1)
    closing = threading.Thread(target=turns.close)
    closing.start()
    while not turns.closed:
        pass
    go.set()
    closing.join(5)
    with pytest.raises(CancelledError):
        waiting.result(5)
    turns.close()
    with pytest.raises(RuntimeError, match="closed"):
        turns.submit(Urgency.BATCH, lambda: 1)
