from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.contract.presets import default
from pilotis.control.guardrail import LONGEST_DOUBLING, Rule, advance, look, put, reset, rule, standing, step_of, watch
from pilotis.derive.plan import Env, derive
from pilotis.errors import Invalid, PilotisError, Transient
from pilotis.ports import CostEvent, Evidence, GuardState
from pilotis.testing.guards import MemoryGuards
from pilotis.testing.online import MemoryMeter

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENV = replace(
    derive(default()).envs["dev"], guardrail_eur_per_req=Decimal("0.02"), ladder=("smaller_top_k", "cache_only", "refuse")
)
BY = Rule(threshold_eur=Decimal("0.02"), window=timedelta(hours=1), min_sample=50, top=5)
DEAR, FAIR, CHEAP = Decimal("0.03"), Decimal("0.018"), Decimal("0.001")


def state(level: int = 0, *, minutes_ago: float = 60, recovering: bool = False, trips: int = 0) -> GuardState:
    since = NOW - timedelta(minutes=minutes_ago)
    return GuardState(scope="env", level=level, since=since, recovering=recovering, trips=trips, version=3)


def seen(answers: int, each: Decimal) -> Evidence:
    return Evidence(since=NOW - timedelta(hours=1), answers=answers, cost_eur=answers * each)


def event(n: int, at: datetime, cost: Decimal, bu: str = "sales") -> CostEvent:
    return CostEvent(
        id=f"{bu} {n} {at}",
        at=at,
        env="dev",
        plane="online",
        bu=bu,
        kind="answer",
        subject="",
        model="m",
        usage={},
        cost_eur=cost,
        price_book="",
        fx=None,
        priced=True,
    )


def test_answers_that_cost_too_much_go_one_step_up_and_the_reason_has_the_figures() -> None:
    after = advance(state(0), seen(50, DEAR), BY, NOW)
    assert after is not None
    assert (after.level, after.since, after.version, after.recovering) == (1, NOW, 4, False)
    assert after.reason == "50 answers cost 0.03 EUR on average, more than 0.02 EUR"


@pytest.mark.parametrize(
    ("before", "evidence"),
    [
        (state(0), seen(49, DEAR)),  # too few to say anything: one dear request at night trips nothing
        (state(0), seen(1, Decimal(100))),
        (state(0), seen(50, BY.threshold_eur)),  # at the threshold is not above it
        (state(0), seen(0, DEAR)),
        (state(5), seen(500, DEAR)),  # there is nothing beyond the last step
        (state(2, minutes_ago=9.9), seen(50, CHEAP)),  # a step lasts for a sixth of the window
        (state(2), seen(50, FAIR)),  # only just below: a step down would trip it again
        (state(2, minutes_ago=19, trips=1), seen(50, CHEAP)),  # tripped again before: twice as long
        (state(1, minutes_ago=30), seen(25, DEAR)),  # in half an hour half of the sample: it will be judged
    ],
)
def test_it_stays_where_it_is(before: GuardState, evidence: Evidence) -> None:
    assert advance(before, evidence, BY, NOW) is None


@pytest.mark.parametrize(
    ("before", "evidence"),
    [
        (state(2, minutes_ago=10), seen(50, CHEAP)),
        (state(4, minutes_ago=10), seen(0, CHEAP)),  # the caches alone answer: no evidence can come
        (state(5, minutes_ago=10), seen(3, DEAR)),  # admitted before everybody knew of the step
        (state(1, minutes_ago=30), seen(24, DEAR)),  # a window will not be enough to judge it
        (state(2, minutes_ago=20, trips=1), seen(50, CHEAP)),
        (state(2, minutes_ago=10 * 2**LONGEST_DOUBLING, trips=99), seen(50, CHEAP)),
    ],
)
def test_it_recovers_one_step_at_a_time(before: GuardState, evidence: Evidence) -> None:
    after = advance(before, evidence, BY, NOW)
    assert after is not None
    assert (after.level, after.recovering, after.trips) == (before.level - 1, True, before.trips)


def test_whoever_is_tripped_again_while_recovering_waits_longer_the_next_time() -> None:
    relapsed = advance(state(1, minutes_ago=5, recovering=True), seen(50, DEAR), BY, NOW)
    climbing = advance(state(1, minutes_ago=5, recovering=False), seen(50, DEAR), BY, NOW)
    assert relapsed is not None
    assert climbing is not None
    assert (relapsed.trips, climbing.trips) == (1, 0)


def test_a_ladder_that_became_shorter_is_no_error() -> None:
    after = advance(state(9), seen(0, CHEAP), replace(BY, top=2), NOW)
    assert after is not None
    assert after.level == 1


@given(
    st.lists(st.tuples(st.integers(0, 200), st.decimals(0, Decimal("0.1"), places=4), st.integers(1, 40)), max_size=60),
)
def test_it_never_jumps_never_leaves_the_ladder_and_never_straightens_up_hastily(
    history: list[tuple[int, Decimal, int]],
) -> None:
    current, now = state(0), NOW
    for answers, each, minutes in history:
        now += timedelta(minutes=minutes)
        after = advance(current, Evidence(since=current.since, answers=answers, cost_eur=answers * each), BY, now)
        if after is None:
            continue
        assert abs(after.level - current.level) == 1
        assert 0 <= after.level <= BY.top
        if after.level < current.level:
            assert now - current.since >= BY.dwell
        else:
            assert answers >= BY.min_sample
            assert each > BY.threshold_eur
        current = after


@given(st.integers(0, 5), st.integers(0, 30))
def test_silence_brings_back_the_full_service(level: int, trips: int) -> None:
    current, now = state(level, trips=trips), NOW
    for _ in range(5):
        now += BY.dwell * 2**LONGEST_DOUBLING
        current = advance(current, Evidence(since=current.since, answers=0, cost_eur=Decimal(0)), BY, now) or current
    assert current.level == 0


@given(
    st.integers(0, 500),
    st.decimals(0, Decimal("0.1"), places=4),
    st.decimals(0, Decimal("0.1"), places=4),
    st.integers(0, 5),
    st.integers(0, 120),
)
def test_dearer_answers_never_lead_to_a_lower_step(
    answers: int, one: Decimal, other: Decimal, level: int, minutes_ago: int
) -> None:
    cheaper, dearer = sorted((one, other))
    before = state(level, minutes_ago=minutes_ago)

    def level_after(each: Decimal) -> int:
        return (advance(before, seen(answers, each), BY, NOW) or before).level

    assert level_after(cheaper) <= level_after(dearer)


def test_who_asks_seldom_gets_to_the_step_that_helps() -> None:
    """One question a minute, and a sample of 50: nobody is judged twice within the time a step lasts at least."""
    costs = {0: DEAR, 1: DEAR, 2: FAIR, 3: CHEAP, 4: CHEAP, 5: CHEAP}
    current, since, highest = state(0), 0, 0
    for minute in range(1, 301):
        answers = min(minute - since, 60)
        after = advance(current, seen(answers, costs[current.level]), BY, NOW + timedelta(minutes=minute))
        if after:
            current, since = after, minute
        highest = max(highest, current.level)
    assert highest == 2
    assert current.level == 2


async def test_each_business_unit_is_judged_by_itself_and_each_move_is_in_the_audit() -> None:
    dear = [event(n, NOW - timedelta(minutes=5), DEAR, "sales") for n in range(60)]
    cheap = [event(n, NOW - timedelta(minutes=5), CHEAP, "legal") for n in range(600)]
    guards = MemoryGuards([*dear, *cheap])
    moved = await look(guards, BY, now=NOW)
    assert [(one.scope, one.level) for one in moved] == [("bu:sales", 1)]
    assert guards.told == {"bu:sales": 1}
    (line,) = await guards.history()
    assert (line["from_level"], line["to_level"], line["actor"]) == (None, 1, "guardrail")
    assert line["figures"] == {
        "answers": 60,
        "cost_eur": "1.80",
        "since": "2026-11-23T11:00:00+00:00",
        "threshold_eur": "0.02",
        "window_s": 3600,
        "min_sample": 50,
    }


async def test_a_step_is_judged_by_answers_that_came_after_it() -> None:
    guards = MemoryGuards([event(n, NOW - timedelta(minutes=5), DEAR) for n in range(60)])
    assert await look(guards, BY, now=NOW)
    assert await look(guards, BY, now=NOW + timedelta(seconds=5)) == []
    guards.events += [event(n, NOW + timedelta(seconds=9), DEAR) for n in range(60)]
    assert [one.level for one in await look(guards, BY, now=NOW + timedelta(seconds=10))] == [2, 2]


async def test_two_who_decide_at_once_move_it_once() -> None:
    guards = MemoryGuards([event(n, NOW - timedelta(minutes=5), DEAR) for n in range(60)])
    await asyncio.gather(look(guards, BY, now=NOW), look(guards, BY, now=NOW))
    assert {one.level for one in await guards.states()} == {1}
    assert len(await guards.history()) == 2  # of the env and of its one business unit


async def test_a_person_may_decide_too() -> None:
    guards = MemoryGuards()
    await put(guards, "bu:sales", 3, actor="ada", reason="set by hand", now=NOW)
    await put(guards, "bu:sales", 0, actor="ada", reason="reset by hand", now=NOW)
    assert [(line["actor"], line["to_level"]) for line in await guards.history()] == [("ada", 0), ("ada", 3)]


async def test_a_reset_brings_everybody_back() -> None:
    guards = MemoryGuards()
    for scope, level in (("env", 2), ("bu:sales", 3), ("bu:legal", 0)):
        await put(guards, scope, level, actor="ada", reason="set by hand", now=NOW)
    assert {one.scope for one in await reset(guards, actor="bob", now=NOW)} == {"env", "bu:sales"}
    assert guards.told == {"env": 0, "bu:sales": 0, "bu:legal": 0}
    assert {line["actor"] for line in await guards.history(limit=2)} == {"bob"}
    assert await reset(guards, actor="bob", now=NOW) == []


def test_a_step_has_a_name_and_a_number() -> None:
    assert [step_of(ENV, name) for name in ("full", "smaller_top_k", "refuse", "0", "2")] == [0, 1, 3, 0, 2]
    for name in ("", "4", "-1", "²", "٣", "9" * 5000, "no_rerank", "Full"):
        with pytest.raises(Invalid, match="the ladder of env 'dev' has no step"):
            step_of(ENV, name)


async def test_where_everybody_stands() -> None:
    guards = MemoryGuards([event(n, NOW - timedelta(minutes=5), DEAR) for n in range(60)])
    await look(guards, replace(BY, top=3), now=NOW)
    await put(guards, "bu:legal", 2, actor="ada", reason="set by hand", now=NOW)
    guards.events += [event(n, NOW + timedelta(seconds=1), CHEAP) for n in range(4)]
    found = await standing(guards, ENV, now=NOW + timedelta(seconds=2), last=1)
    assert (found["threshold_eur"], found["ladder"]) == (
        Decimal("0.02"),
        ["full", "smaller_top_k", "cache_only", "refuse"],
    )
    rows = {row["scope"]: row for row in found["scopes"]}
    assert rows.keys() == {"env", "bu:sales", "bu:legal"}
    assert (rows["bu:sales"]["level"], rows["bu:sales"]["answers"], rows["bu:sales"]["mean_eur"]) == (1, 4, CHEAP)
    assert rows["bu:legal"]["step"] == rows["bu:legal"]["in_force"] == "cache_only"
    assert rows["bu:legal"]["recovers_at"] == NOW + timedelta(minutes=10)
    assert [move["scope"] for move in found["moves"]] == ["bu:legal"]

    mine = await standing(guards, ENV, now=NOW, bu="other")
    (row,) = mine["scopes"]
    assert (row["scope"], row["step"], row["in_force"], row["answers"], row["mean_eur"]) == (
        *("bu:other", "full", "smaller_top_k"),
        *(0, None),
    )
    assert mine["moves"] == [], "what others do is not told"


async def test_a_person_who_was_overtaken_is_told() -> None:
    class Overtaken(MemoryGuards):
        async def move(self, state: GuardState, *, actor: str, figures: object) -> bool:
            return False

    with pytest.raises(PilotisError, match="at the same moment"):
        await put(Overtaken(), "env", 1, actor="ada", reason="", now=NOW)


async def test_the_watch_outlives_what_fails_and_only_the_leader_moves() -> None:
    guards = MemoryGuards([event(n, NOW - timedelta(minutes=5), DEAR) for n in range(60)])
    meter = MemoryMeter()
    env = replace(derive(default()).envs["dev"], guardrail_eur_per_req=Decimal("0.02"))
    turns = 0

    async def leads() -> bool:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise Transient("away")
        return turns > 2

    times = (NOW + timedelta(seconds=15 * n) for n in itertools.count())
    task = asyncio.create_task(watch(guards, meter, env, leads=leads, every_s=0.001, clock=lambda: next(times)))
    async with asyncio.timeout(2):
        while turns < 5:  # noqa: ASYNC110 - the loop tells nobody what it does
            await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert meter.values["rag_guardrail_level", (("scope", "env"),)] == [1]


async def watched(guards: MemoryGuards, env: Env, *, moments: list[datetime]) -> None:
    """Let it look once at each of these moments."""
    left = iter(moments)
    done = asyncio.Event()

    def clock() -> datetime:
        moment = next(left, None)
        if moment is None:
            done.set()
        return moment or datetime.min.replace(tzinfo=UTC)

    async def leads() -> bool:
        return True

    task = asyncio.create_task(watch(guards, MemoryMeter(), env, leads=leads, every_s=0, clock=clock))
    async with asyncio.timeout(5):
        await done.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_admission_was_not_told_is_told_with_the_next_look() -> None:
    admission: dict[str, int] = {}
    is_away = True

    async def tell(levels: Mapping[str, int]) -> None:
        nonlocal is_away
        if is_away:
            is_away = False
            raise Transient("Redis does not answer")
        admission.update(levels)

    guards = MemoryGuards(tell=tell)
    with pytest.raises(Transient):
        await put(guards, "env", 2, actor="ada", reason="set by hand", now=NOW)
    assert admission == {}
    await watched(guards, ENV, moments=[NOW])
    assert admission == {"env": 2}


async def test_a_long_window_is_not_summed_every_few_seconds() -> None:
    class Counting(MemoryGuards):
        looks = 0

        async def evidence(self, since: datetime, states: Sequence[GuardState]) -> Mapping[str, Evidence]:
            self.looks += 1
            return await super().evidence(since, states)

    every_5_s = [NOW + timedelta(seconds=5 * n) for n in range(13)]
    for window_s, looks in ((60, 13), (3600, 5), (31 * 86_400, 2)):
        guards = Counting()
        await watched(guards, replace(ENV, guardrail_window_s=window_s), moments=every_5_s)
        assert guards.looks == looks


async def test_without_a_guardrail_nobody_trips_and_whoever_was_bent_recovers() -> None:
    guards = MemoryGuards([event(n, NOW + timedelta(minutes=n), Decimal(9)) for n in range(60)])
    await put(guards, "env", 2, actor="guardrail", reason="dear", now=NOW)
    env = replace(ENV, guardrail_eur_per_req=None)
    await watched(guards, env, moments=[NOW + timedelta(minutes=n) for n in range(60)])
    (now,) = await guards.states()
    assert now.level == 0
    found = await standing(guards, env, now=NOW)
    assert (found["threshold_eur"], found["scopes"][0]["step"]) == (None, "full")


def test_an_env_without_a_threshold_has_no_guardrail() -> None:
    assert rule(replace(derive(default()).envs["dev"], guardrail_eur_per_req=None)) is None
