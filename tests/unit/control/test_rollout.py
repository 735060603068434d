"""The states of a rollout: each way through, and what no way may ever do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.control import rollout as states
from pilotis.control.judge import Verdict
from pilotis.control.rollout import Facts, Rules, advance
from pilotis.ports.releases import ENDED, Approval, Outcome, Rollout, RolloutState

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RULES = Rules(approvals=(), max_hold=timedelta(hours=1), watch=timedelta(minutes=10), goes_back=True)
BOTH = replace(RULES, approvals=("business", "sre"))


def rollout(**changes: Any) -> Rollout:
    fields: dict[str, Any] = {
        "id": "r1",
        "env": "prod",
        "candidate": "new",
        "stable": "old",
        "state": "pending",
        "stages": (5, 25, 100),
        "stage": 0,
        "weight": 0,
        "author": "ada",
        "began_at": NOW,
        "since": NOW,
        "ends_at": NOW + states.PENDING_FOR,
    }
    return Rollout(**(fields | changes))


def at_stage(stage: int = 0, **changes: Any) -> Rollout:
    weight = (5, 25, 100)[stage]
    known = {"state": "progressing", "stage": stage, "weight": weight, "confirmed_at": NOW, "ends_at": NOW + RULES.max_hold}
    return rollout(**(known | changes))


def verdict(outcome: Outcome, *reasons: str) -> Verdict:
    return Verdict(outcome=outcome, reasons=reasons or (f"it is {outcome}",), findings=())


def seen(before: Rollout, outcome: Outcome | None = None, **changes: Any) -> Facts:
    fields: dict[str, Any] = {
        "weight": before.weight,
        "healthy": True,
        "verdict": verdict(outcome) if outcome else None,
        "requests": 10,
    }
    return Facts(**(fields | changes))


def approval(role: str, by: str, **changes: Any) -> Approval:
    fields: dict[str, Any] = {"rollout": "r1", "role": role, "by": by, "at": NOW, "evidence": "e", "signature": "s"}
    return Approval(**(fields | {"expires_at": NOW + timedelta(days=1)} | changes))


def test_a_good_release_goes_through_all_stages_and_is_watched() -> None:
    told, now = rollout(), NOW
    passed = []
    for _ in range(20):
        now += timedelta(minutes=3)
        outcome: Outcome | None = "pass" if told.confirmed_at and told.state in {"progressing", "promoting"} else None
        following = advance(told, seen(told, outcome), RULES, now)
        if following is not None:
            told = following
            passed.append((told.state, told.weight))
        if told.state in ENDED:
            break
    assert list(dict.fromkeys(passed)) == [
        ("progressing", 5),
        ("progressing", 25),
        ("progressing", 100),
        ("promoting", 100),
        ("completed", 100),
    ]


@pytest.mark.parametrize("state", [one for one in get_args(RolloutState) if one not in ENDED])
def test_an_abort_wins_over_everything_else_that_is_known(state: RolloutState) -> None:
    before = at_stage(1, state=state, asked="abort", asked_by="ada", **({"weight": 0} if state == "rolling_back" else {}))
    following = advance(before, seen(before, "pass", drained=False), RULES, NOW)
    if state == "rolling_back":
        assert following is None, "it is on its way already"
    else:
        assert following is not None
        assert (following.state, following.weight) == ("rolling_back", 0)
        assert "aborted by ada" in following.reason


def test_an_abort_is_never_replaced_by_a_promotion() -> None:
    told = states.asked(at_stage(), "abort", "ada")
    assert told is not None
    assert states.asked(told, "promote", "bob") is None
    assert states.asked(told, "abort", "bob") is None


def test_a_failed_verdict_sends_it_back_with_its_reason_and_ends_once_the_candidate_is_drained() -> None:
    before = at_stage(1)
    back = advance(before, replace(seen(before), verdict=verdict("fail", "12 of 210 failed, 2 of 800 at stable")), RULES, NOW)
    assert back is not None
    assert (back.state, back.weight, back.reason) == ("rolling_back", 0, "12 of 210 failed, 2 of 800 at stable")
    waiting = advance(back, seen(back, drained=False), RULES, NOW)
    assert waiting is not None
    assert waiting.state == "rolling_back"
    ended = advance(waiting, seen(waiting, drained=True), RULES, NOW)
    assert ended is not None
    assert ended.state == "rolled_back"


@pytest.mark.parametrize("outcome", ["inconclusive", "error"])
def test_neither_too_little_data_nor_no_answer_takes_it_further(outcome: Outcome) -> None:
    before, now = at_stage(), NOW
    for _ in range(400):
        now += timedelta(seconds=10)
        following = advance(before, seen(before, outcome, requests=0), RULES, now)
        if following is None:
            continue
        assert following.weight in {0, before.weight}
        before = following
        if before.state == "rolling_back":
            break
    assert before.state == "rolling_back"
    assert "1 hour" in before.reason
    assert now - NOW == RULES.max_hold


def test_it_says_that_it_holds_and_goes_on_when_requests_come() -> None:
    before = at_stage()
    held = advance(before, seen(before, "inconclusive", requests=0), RULES, NOW + states.HOLDS_AFTER)
    assert held is not None
    assert (held.state, held.weight, held.confirmed_at) == ("holding", 5, NOW)
    again = advance(held, seen(held, "inconclusive", requests=7), RULES, NOW + timedelta(minutes=5))
    assert again is not None
    assert again.state == "progressing"
    assert again.ends_at == before.ends_at, "holding does not prolong the stage"


def test_a_person_may_decide_without_data_but_not_against_a_verdict_that_fails() -> None:
    before = at_stage(asked="promote", asked_by="ada")
    moved = advance(before, seen(before, "inconclusive"), RULES, NOW)
    assert moved is not None
    assert (moved.state, moved.weight, moved.asked) == ("progressing", 100, None)
    assert "promoted by ada" in moved.reason
    back = advance(before, seen(before, "fail"), RULES, NOW)
    assert back is not None
    assert back.state == "rolling_back"


def test_roles_agree_by_distinct_people_who_are_not_the_author_and_not_too_long_ago() -> None:
    roles = BOTH.approvals
    agreed = [approval("business", "bob"), approval("sre", "eve")]
    assert states.missing(roles, agreed, author="ada", now=NOW) == ()
    assert states.missing(roles, agreed, author="eve", now=NOW) == ("sre",)
    assert states.missing(roles, [approval("business", "bob"), approval("sre", "bob")], author="ada", now=NOW) == ("sre",)
    stale = approval("sre", "eve", expires_at=NOW)
    assert states.missing(roles, [agreed[0], stale], author="ada", now=NOW) == ("sre",)


def test_without_the_approvals_nothing_moves_and_after_a_week_it_ends() -> None:
    before = rollout()
    waiting = advance(before, seen(before), BOTH, NOW)
    assert waiting is not None
    assert (waiting.state, waiting.weight) == ("awaiting_approval", 0)
    assert waiting.reason == "waits for business and sre"
    one = advance(waiting, seen(waiting, approvals=[approval("business", "bob")]), BOTH, NOW)
    assert one is not None
    assert (one.state, one.reason) == ("awaiting_approval", "waits for sre")
    late = advance(one, seen(one), BOTH, NOW + states.AGREED_WITHIN)
    assert late is not None
    assert late.state == "rolling_back"
    agreed = [approval("business", "bob"), approval("sre", "eve")]
    frozen = advance(one, seen(one, approvals=agreed, frozen="fri 16:00-mon 08:00"), BOTH, NOW)
    assert frozen is not None
    assert (frozen.state, frozen.weight) == ("awaiting_approval", 0)
    begun = advance(frozen, seen(frozen, approvals=agreed), BOTH, NOW)
    assert begun is not None
    assert (begun.state, begun.weight) == ("progressing", 5)


def test_a_weight_changed_behind_our_back_is_noted_and_starts_the_evidence_anew() -> None:
    before = at_stage(1)
    found = advance(before, seen(before, "pass", weight=90), RULES, NOW)
    assert found is not None
    assert (found.weight, found.confirmed_at, found.drift) == (25, None, 1)
    assert "90 % instead of 25 %" in found.reason


def test_a_router_that_nobody_reaches_is_no_change_of_weight() -> None:
    before = at_stage(1)
    assert advance(before, seen(before, weight=None), RULES, NOW) is None


def test_a_candidate_that_crashes_in_a_loop_goes_back_and_one_that_was_started_again_does_not() -> None:
    before = at_stage()
    assert (
        advance(before, seen(before, "inconclusive", healthy=False, ill_since=NOW), RULES, NOW + timedelta(seconds=5)) is None
    )
    back = advance(before, seen(before, healthy=False, ill_since=NOW), RULES, NOW + states.ILL_FOR)
    assert back is not None
    assert back.state == "rolling_back"


def test_where_the_contract_wants_no_rollback_a_failed_verdict_holds_for_a_person_and_not_for_ever() -> None:
    stays = replace(RULES, goes_back=False)
    before = at_stage(1)
    held = advance(before, seen(before, "fail"), stays, NOW)
    assert held is not None
    assert (held.state, held.weight) == ("holding", 25)
    assert advance(held, seen(held, "fail"), stays, NOW) is None
    passes = advance(held, seen(held, "pass"), stays, NOW)
    assert passes is not None, "who was judged on more is judged anew"
    late = advance(held, seen(held, "fail"), stays, NOW + RULES.max_hold)
    assert late is not None
    assert late.state == "rolling_back"


def test_a_candidate_that_never_gets_ready_never_gets_traffic() -> None:
    before = rollout()
    assert advance(before, seen(before, healthy=False), RULES, NOW) is None
    late = advance(before, seen(before, healthy=False), RULES, NOW + states.PENDING_FOR)
    assert late is not None
    assert (late.state, late.weight) == ("rolling_back", 0)


def test_a_router_that_is_gone_for_good_ends_in_failed_and_says_so() -> None:
    back = states.back(at_stage(1), "errors", NOW)
    assert advance(back, seen(back, weight=25), RULES, NOW + timedelta(minutes=59)) is None
    failed = advance(back, seen(back, weight=25), RULES, NOW + states.BACK_WITHIN)
    assert failed is not None
    assert failed.state == "failed"
    assert "could not be set to 0 %" in failed.reason


OUTCOMES = st.sampled_from([None, *get_args(Outcome)])
FACTS = st.builds(
    lambda off, healthy, drained, outcome, requests, frozen, ill: {
        "off": off,
        "healthy": healthy,
        "drained": drained,
        "verdict": verdict(outcome) if outcome else None,
        "requests": requests,
        "frozen": "2026-12-24/2026-12-26" if frozen else "",
        "ill": ill,
    },
    off=st.sampled_from([0, 0, 0, 20, None]),
    healthy=st.sampled_from([True, True, False, None]),
    drained=st.sampled_from([True, False, None]),
    outcome=OUTCOMES,
    requests=st.integers(0, 3),
    frozen=st.booleans(),
    ill=st.sampled_from([0, 0, 0, 30]),
)
WISHES = st.sampled_from([None, None, None, None, "promote", "abort"])


@given(steps=st.lists(st.tuples(FACTS, WISHES, st.integers(1, 4000)), max_size=60), goes_back=st.booleans())
def test_whatever_happens_no_weight_rises_without_a_pass_or_a_person(steps: list[Any], goes_back: bool) -> None:
    told, now, by = rollout(), NOW, replace(RULES, goes_back=goes_back)
    aborted = False
    for given_facts, wish, seconds in steps:
        now += timedelta(seconds=seconds)
        if wish and (asked := states.asked(told, wish, "ada")) is not None:
            told = asked
        aborted |= told.asked == "abort"
        off = given_facts.pop("off") if "off" in given_facts else 0
        weight = None if off is None else min(100, told.weight + off)
        facts = dict(given_facts)
        ill_since = now - timedelta(seconds=facts.pop("ill")) if facts["healthy"] is False else facts.pop("ill") and None
        following = advance(told, Facts(weight=weight, ill_since=ill_since or None, **facts), by, now)
        if following is None:
            continue
        assert following.version == told.version + 1
        assert following.weight in {0, *told.stages}
        assert told.state not in ENDED
        assert following.state in ENDED or following.ends_at is not None, "every state has a deadline"
        if following.weight > told.weight and told.state != "pending":
            passed = facts["verdict"] is not None and facts["verdict"].outcome == "pass"
            assert passed or told.asked == "promote"
        if aborted:
            assert following.weight == 0
            assert following.state not in {"completed", "promoting"}
        if following.state == "completed":
            assert told.state == "promoting"
            assert facts["verdict"] is not None
            assert facts["verdict"].outcome != "fail"
        told = following


@given(
    outcome=OUTCOMES,
    healthy=st.sampled_from([True, False, None]),
    weight=st.sampled_from([None, 0, 5, 100]),
    goes_back=st.booleans(),
)
def test_with_the_same_facts_for_ever_every_rollout_ends(
    outcome: Outcome | None, healthy: bool | None, weight: int | None, goes_back: bool
) -> None:
    told, now, by = rollout(), NOW, replace(RULES, goes_back=goes_back)
    for _ in range(3000):
        now += timedelta(seconds=30)
        facts = Facts(weight=weight, healthy=healthy, verdict=verdict(outcome) if outcome else None, drained=False)
        told = advance(told, facts, by, now) or told
        if told.state in ENDED:
            return
    pytest.fail(f"still {told.state} after {now - NOW}")
