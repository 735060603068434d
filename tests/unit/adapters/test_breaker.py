from __future__ import annotations

import pytest

from pilotis.adapters.breaker import FAILURES, LONGEST_REST_S, PROBE_S, REST_S, Breaker


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[float] = []
        self.breaker = Breaker(watch=self.told.append, clock=lambda: self.now)

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed()


@pytest.fixture
def world() -> World:
    return World()


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(world: World) -> None:
    world.fail(FAILURES - 1)
    world.breaker.succeeded()
    world.fail(FAILURES - 1)
    assert world.breaker.retry_after_s() is None
    assert world.told == []
    world.fail(1)
    assert world.breaker.state == "open"
    wait_s = world.breaker.retry_after_s()
    assert wait_s is not None
    assert 0.8 * REST_S <= wait_s <= 1.2 * REST_S
    assert world.told == [1]


def test_one_probe_goes_through_after_the_rest_and_its_success_closes_it(world: World) -> None:
    world.fail(FAILURES)
    world.now += 1.2 * REST_S
    assert world.breaker.state == "half-open"
    assert world.breaker.retry_after_s() is None
    assert world.breaker.retry_after_s() == 1.0, "one at a time"
    world.breaker.succeeded()
    assert world.told == [1, 0]
    assert world.breaker.retry_after_s() is None
    assert world.told == [1, 0]


def test_a_probe_that_fails_doubles_the_rest_up_to_a_bound(world: World) -> None:
    world.fail(FAILURES)
    rests = []
    for _ in range(8):
        world.now += 2 * LONGEST_REST_S
        assert world.breaker.retry_after_s() is None
        world.breaker.failed()
        rests.append(world.breaker.retry_after_s() or 0.0)
    assert rests[0] >= 1.6 * REST_S
    assert LONGEST_REST_S * 0.8 <= rests[-1] <= LONGEST_REST_S * 1.2


def test_a_probe_whose_caller_left_makes_room_for_the_next(world: World) -> None:
    world.fail(FAILURES)
    world.now += 2 * REST_S
    assert world.breaker.retry_after_s() is None
    world.breaker.abandoned()
    assert world.breaker.retry_after_s() is None
    world.now += PROBE_S  # this one never said how it ended
    assert world.breaker.retry_after_s() is None
