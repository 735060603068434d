"""The states of a rollout and how one follows from another: pure, so that every way through can be tried.

    pending → awaiting_approval → progressing(5 → 25 → 100) → promoting → completed
                                      ↕ holding
    from each of them → rolling_back → rolled_back; failed where nothing could be tried or nobody can put it right but a person

Each state has a deadline and an exit. An abort is looked at before everything else. Nothing but a verdict that passes, or a person,
takes a rollout a stage further: no data, and no answer from who measures, are never a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pilotis.control.judge import Verdict
from pilotis.ports.releases import ENDED, Approval, Rollout, RolloutState

if TYPE_CHECKING:
    from pilotis.contract.deploy import Deploy

PENDING_FOR = timedelta(minutes=10)
"""How long a candidate has to get ready."""
AGREED_WITHIN = timedelta(days=7)
HOLDS_AFTER = timedelta(seconds=30)
"""Without a request or without an answer from who measures for so long, a rollout says that it holds."""
ILL_FOR = timedelta(seconds=10)
"""A candidate that cannot serve for so long crashes in a loop: one that was started again is back by then."""
DRAINED_WITHIN = timedelta(minutes=2)
BACK_WITHIN = timedelta(hours=1)
"""Without the router for so long, a person has to look; until then it is tried at every tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the contract says of the rollouts of one env."""

    approvals: tuple[str, ...]
    """Roles that have to agree; none where the env is not prod."""
    max_hold: timedelta
    watch: timedelta
    """How long a release is watched once it has all traffic."""
    goes_back: bool
    """Whether a verdict that fails sends the release back by itself; else it holds for a person."""
    on_no_data: Literal["abort", "hold"] = "abort"
    """What follows once `max_hold` has passed without enough to go by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen at one tick. None stands for what nobody could say."""

    weight: int | None
    """As the router tells it."""
    healthy: bool | None
    """Whether the candidate can serve."""
    ill_since: datetime | None = None
    """Since when it cannot, without a break."""
    drained: bool | None = None
    verdict: Verdict | None = None
    """None where there was nothing to judge in this state."""
    requests: int = 0
    """Of the candidate since its weight was confirmed."""
    approvals: Sequence[Approval] = ()
    frozen: str = ""
    """The freeze window that is in force, as it is written."""


def rules(deploy: Deploy, *, is_prod: bool) -> Rules:
    """Of an env."""
    return Rules(
        approvals=deploy.approvals if is_prod else (),
        max_hold=timedelta(seconds=deploy.max_hold_s),
        watch=timedelta(seconds=deploy.watch_s),
        goes_back=deploy.rollback_on != "never",
        on_no_data=deploy.on_no_data,
    )


def advance(rollout: Rollout, facts: Facts, by: Rules, now: datetime) -> Rollout | None:
    """The next state, or None where it stays as it is. Raises nothing, and knows no clock but `now`."""
    if rollout.state in ENDED:
        return None
    if rollout.asked == "abort" and rollout.state != "rolling_back":
        return back(rollout, f"aborted by {rollout.asked_by}", now)
    match rollout.state:
        case "pending":
            return _pending(rollout, facts, by, now)
        case "awaiting_approval":
            return _awaiting(rollout, facts, by, now)
        case "rolling_back":
            return _rollingback(rollout, facts, now)
        case _:
            return _moving(rollout, facts, by, now)


def missing(roles: Sequence[str], given: Sequence[Approval], *, author: str, now: datetime) -> tuple[str, ...]:
    """The roles that have not agreed: one's own release, an approval that has expired and a second role of one person do not count."""
    counted: dict[str, str] = {}
    for approval in given:
        if approval.by != author and now < approval.expires_at and approval.by not in counted.values():
            counted[approval.role] = approval.by
    return tuple(role for role in roles if role not in counted)


def asked(rollout: Rollout, what: Literal["abort", "promote"], by: str) -> Rollout | None:
    """With a person's wish noted; None where it changes nothing. An abort is never taken back."""
    if rollout.state in ENDED or rollout.asked in {"abort", what}:
        return None
    return _next(rollout, asked=what, asked_by=by)


def back(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """On its way to 0 %, from whatever state."""
    return replace(_to(rollout, "rolling_back", reason, now, ends=now + BACK_WITHIN), weight=0, held_from=None)


def _pending(rollout: Rollout, facts: Facts, by: Rules, now: datetime) -> Rollout | None:
    if facts.healthy and facts.weight == 0:
        if missing(by.approvals, facts.approvals, author=rollout.author, now=now):
            reason = f"waits for {' and '.join(by.approvals)}"
            return _to(rollout, "awaiting_approval", reason, now, ends=now + AGREED_WITHIN)
        return _stage(rollout, 0, "the candidate is ready", by, now)
    if _is_late(rollout, now):
        why = "its router could not be set to 0 %" if facts.healthy else "no process of it became ready"
        return back(rollout, f"{why} within {_long(PENDING_FOR)}", now)
    return None


def _awaiting(rollout: Rollout, facts: Facts, by: Rules, now: datetime) -> Rollout | None:
    if _is_late(rollout, now):
        return back(rollout, f"nobody agreed within {_long(AGREED_WITHIN)}", now)
    left = missing(by.approvals, facts.approvals, author=rollout.author, now=now)
    if left:
        reason = f"waits for {' and '.join(left)}"
        return None if reason == rollout.reason else _next(rollout, reason=reason)
    if facts.frozen:
        reason = f"waits for the end of the freeze {facts.frozen}"
        return None if reason == rollout.reason else _next(rollout, reason=reason)
    return _stage(rollout, 0, "all have agreed", by, now)


def _moving(rollout: Rollout, facts: Facts, by: Rules, now: datetime) -> Rollout | None:
    """Progressing, holding and promoting: whatever has traffic."""
    if facts.ill_since is not None and now - facts.ill_since >= ILL_FOR:
        return _failed(rollout, "the candidate crashes in a loop, or does not answer", by, now)
    if facts.weight != rollout.weight:
        return _unconfirmed(rollout, facts, now)
    if rollout.confirmed_at is None:
        return _next(rollout, confirmed_at=now)
    if facts.verdict is None:
        return back(rollout, "nobody judged it in time", now) if _is_late(rollout, now) else None
    return _judged(rollout, facts, facts.verdict, by, now)


def _judged(rollout: Rollout, facts: Facts, verdict: Verdict, by: Rules, now: datetime) -> Rollout | None:
    if verdict.outcome == "fail":
        return _failed(rollout, _told(verdict), by, now)
    if rollout.state == "promoting":
        return _promoting(rollout, verdict, by, now)
    if rollout.asked == "promote":
        return _promoted(rollout, by, now)
    if verdict.outcome == "pass":
        return _further(rollout, facts, by, now)
    return _without(rollout, facts, verdict, by, now)


def _unconfirmed(rollout: Rollout, facts: Facts, now: datetime) -> Rollout | None:
    """The router does not have, or no longer has, the weight that was set. What was gathered at another weight is no evidence."""
    if rollout.confirmed_at is not None and facts.weight is not None:
        reason = f"the weight was found changed behind our back: {facts.weight} % instead of {rollout.weight} %"
        return _next(rollout, confirmed_at=None, drift=rollout.drift + 1, reason=reason)
    if _is_late(rollout, now):
        return back(rollout, f"the router could not be brought to {rollout.weight} %", now)
    return None


def _further(rollout: Rollout, facts: Facts, by: Rules, now: datetime) -> Rollout | None:
    assert facts.verdict is not None
    if facts.frozen:
        reason = f"passed; waits for the end of the freeze {facts.frozen}"
        return None if reason == rollout.reason else _next(rollout, reason=reason)
    if rollout.stage + 1 < len(rollout.stages):
        return replace(_stage(rollout, rollout.stage + 1, _told(facts.verdict), by, now), verdict=facts.verdict.figures())
    return _watched(replace(rollout, verdict=facts.verdict.figures()), _told(facts.verdict), by, now)


def _promoted(rollout: Rollout, by: Rules, now: datetime) -> Rollout:
    """A person takes the place of the evidence that lacks; of a verdict that fails never."""
    reason = f"promoted by {rollout.asked_by}, without waiting for a verdict"
    told = replace(rollout, asked=None, asked_by="")
    if rollout.weight < 100:
        return _stage(told, len(rollout.stages) - 1, reason, by, now)
    return _watched(told, reason, by, now)


def _watched(rollout: Rollout, reason: str, by: Rules, now: datetime) -> Rollout:
    return _to(rollout, "promoting", reason, now, ends=now + by.watch, keeps=True)


def _promoting(rollout: Rollout, verdict: Verdict, by: Rules, now: datetime) -> Rollout | None:
    if not _is_late(rollout, now):
        return None
    reason = f"watched for {_long(by.watch)} at 100 %: {_told(verdict)}"
    return replace(_to(rollout, "completed", reason, now, keeps=True), verdict=verdict.figures())


def _without(rollout: Rollout, facts: Facts, verdict: Verdict, by: Rules, now: datetime) -> Rollout | None:
    """Not enough to go by, or nobody could say."""
    if _is_late(rollout, now):
        reason = f"after {_long(by.max_hold)} at {rollout.weight} %: {_told(verdict)}"
        if by.on_no_data == "abort":
            return replace(back(rollout, reason, now), verdict=verdict.figures())
        return None if rollout.state == "holding" else _held(rollout, reason, verdict, now)
    assert rollout.confirmed_at is not None
    silent = verdict.outcome == "error" or facts.requests == 0
    if silent and rollout.state != "holding" and now - rollout.confirmed_at >= HOLDS_AFTER:
        return _held(rollout, _told(verdict), verdict, now)
    if not silent and rollout.state == "holding" and rollout.verdict.get("outcome") != "fail":
        return _next(rollout, state=rollout.held_from or "progressing", held_from=None, since=now, reason=_told(verdict))
    return None


def _held(rollout: Rollout, reason: str, verdict: Verdict, now: datetime) -> Rollout:
    held = _to(rollout, "holding", reason, now, ends=rollout.ends_at, keeps=True)
    return replace(held, held_from=rollout.held_from or rollout.state, verdict=verdict.figures())


def _failed(rollout: Rollout, reason: str, by: Rules, now: datetime) -> Rollout | None:
    if by.goes_back or (_is_late(rollout, now) and by.on_no_data == "abort"):
        return back(rollout, reason, now)
    if rollout.state == "holding" and rollout.reason == reason:
        return None
    return replace(
        _to(rollout, "holding", reason, now, ends=rollout.ends_at, keeps=True),
        held_from=rollout.held_from or rollout.state,
        verdict={"outcome": "fail", "reasons": [reason]},
    )


def _rollingback(rollout: Rollout, facts: Facts, now: datetime) -> Rollout | None:
    if facts.weight == 0:
        if facts.drained or now - rollout.since >= DRAINED_WITHIN:
            left = "" if facts.drained else f"; requests were still under way after {_long(DRAINED_WITHIN)}"
            return _to(rollout, "rolled_back", rollout.reason + left, now)
        return None if rollout.confirmed_at else _next(rollout, confirmed_at=now)
    if _is_late(rollout, now):
        return _to(rollout, "failed", f"{rollout.reason}; its router could not be set to 0 % for {_long(BACK_WITHIN)}", now)
    return None


def _stage(rollout: Rollout, stage: int, reason: str, by: Rules, now: datetime) -> Rollout:
    moved = _to(rollout, "progressing", reason, now, ends=now + by.max_hold)
    return replace(moved, stage=stage, weight=rollout.stages[stage], held_from=None)


def _to(
    rollout: Rollout, state: RolloutState, reason: str, now: datetime, *, ends: datetime | None = None, keeps: bool = False
) -> Rollout:
    """`keeps` leaves the weight confirmed, and so what was gathered since."""
    confirmed = rollout.confirmed_at if keeps else None
    return _next(rollout, state=state, reason=reason, since=now, ends_at=ends, confirmed_at=confirmed)


def _next(rollout: Rollout, **changes: object) -> Rollout:
    return replace(rollout, version=rollout.version + 1, **changes)  # type: ignore[arg-type]


def _is_late(rollout: Rollout, now: datetime) -> bool:
    return rollout.ends_at is not None and now >= rollout.ends_at


def _told(verdict: Verdict) -> str:
    return "; ".join(verdict.reasons) or verdict.outcome


def _long(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}{'s' if seconds > size else ''}"
    return f"{seconds} s"
