"""The guardrail: where answers cost more than agreed on average, the service bends step by step, and straightens up again.

It watches a ratio, which alone bounds no money: exactly at 0.02 EUR and 200 requests a second an hour costs 14,400 EUR. Budgets bound
money (`ports.Admission`); this bounds what one answer costs, and says so in each answer that a cheaper step served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pilotis.derive.ladder import rungs
from pilotis.derive.plan import Env
from pilotis.errors import Invalid, PilotisError
from pilotis.ports import Evidence, Guards, GuardState, Meter

log = logging.getLogger(__name__)

RECOVERED = Decimal("0.8")
"""Below this share of the threshold a step down is tried: not just below it, or it would be tripped again at once."""
DWELLS_PER_WINDOW = 6
LONGEST_DOUBLING = 4
EVERY_S = 5.0
LOOKS_PER_WINDOW = 240
"""A look sums the answers of a window: a long window is not summed every few seconds."""
LONGEST_PAUSE = timedelta(minutes=1)
ACTOR = "guardrail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the contract says of the guardrail of one env."""

    threshold_eur: Decimal
    """Mean cost of an answer that must not be exceeded."""
    window: timedelta
    min_sample: int
    top: int
    """The last step of the ladder."""

    @property
    def dwell(self) -> timedelta:
        """How long a step lasts at least before a step down."""
        return self.window / DWELLS_PER_WINDOW

    def recovers_at(self, state: GuardState) -> datetime | None:
        """When the next step down may come at the earliest; None where nothing is left to recover from."""
        if min(state.level, self.top) == 0:
            return None
        return state.since + self.dwell * (1 << min(state.trips, LONGEST_DOUBLING))


def rule(env: Env) -> Rule | None:
    """The env's, None where its contract has no guardrail or leaves it no step."""
    if env.guardrail_eur_per_req is None or len(rungs(env)) == 1:
        return None
    return Rule(
        threshold_eur=env.guardrail_eur_per_req,
        window=timedelta(seconds=env.guardrail_window_s),
        min_sample=env.guardrail_min_sample,
        top=len(rungs(env)) - 1,
    )


def untripped(env: Env) -> Rule:
    """For an env without a guardrail: no answer is too dear, and a step that was taken before, or by a person, ends as any other."""
    window = timedelta(seconds=env.guardrail_window_s)
    return Rule(threshold_eur=Decimal("Infinity"), window=window, min_sample=env.guardrail_min_sample, top=len(rungs(env)) - 1)


def advance(state: GuardState, evidence: Evidence, by: Rule, now: datetime) -> GuardState | None:
    """The next state, or None where it stays.

    One step up on a mean above the threshold, over a full sample gathered since the last move: each step is given the chance to
    help. One step down once the step has lasted, on a mean well below or for lack of answers: nothing is served from a step that
    serves nothing, so only trying tells. Dear answers that come at a rate which fills the sample within a window are no lack of
    answers: who asks once a minute would else be back at the full service before any step could be judged. Whoever is tripped
    again while recovering waits twice as long the next time (hysteresis, with a bound), since at a cheaper step the mean is lower
    because of the step.
    """
    level = min(state.level, by.top)
    sampled = evidence.answers >= by.min_sample
    mean = evidence.cost_eur / evidence.answers if evidence.answers else Decimal(0)
    if sampled and mean > by.threshold_eur:
        if level == by.top:
            return None
        again = state.recovering and now - state.since <= by.window
        reason = f"{evidence.answers} answers cost {_eur(mean)} on average, more than {_eur(by.threshold_eur)}"
        return _moved(state, level + 1, now, reason, recovering=False, trips=state.trips + again)
    recovers_at = by.recovers_at(state)
    if recovers_at is None or now < recovers_at:
        return None
    fills = evidence.answers * by.window >= by.min_sample * (now - state.since)
    if mean > RECOVERED * by.threshold_eur and (sampled or fills):
        return None
    reason = (
        f"{evidence.answers} answers cost {_eur(mean)} on average"
        if sampled
        else f"only {evidence.answers} answers to judge by"
    )
    return _moved(state, level - 1, now, reason, recovering=True, trips=state.trips)


def settled(state: GuardState, by: Rule, now: datetime) -> GuardState:
    """The same, with old trips forgotten once the full service has lasted a window."""
    if state.level == 0 and state.trips and now - state.since > by.window:
        return replace(state, trips=0)
    return state


async def watch(
    guards: Guards,
    meter: Meter,
    env: Env,
    *,
    leads: Callable[[], Awaitable[bool]],
    every_s: float = EVERY_S,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Look again and again until cancelled; only who `leads` moves anything. What fails is logged and tried again."""
    by = rule(env) or untripped(env)
    due = datetime.min.replace(tzinfo=UTC)
    meter.gauge("rag_guardrail_level", 0, scope="env")
    while True:
        try:
            # First: while Redis is away nobody leads, and each process goes by what it read here.
            for state in await guards.states():
                meter.gauge("rag_guardrail_level", state.level, scope=state.scope)
            now = clock()
            if now >= due and await leads():
                await look(guards, by, now=now)
                due = now + min(by.window / LOOKS_PER_WINDOW, LONGEST_PAUSE)
                # A move whose word did not get through, or got lost with its process, is made up for.
                await guards.announce()
                for state in await guards.states():
                    meter.gauge("rag_guardrail_level", state.level, scope=state.scope)
        except PilotisError as error:
            log.warning("the guardrail waits: %s", error.message)
        except Exception:  # the guardrail stands for as long as the process lives
            log.exception("the guardrail waits")
        await asyncio.sleep(every_s)


async def look(guards: Guards, by: Rule, *, now: datetime) -> list[GuardState]:
    """Judge every scope once; return those that moved."""
    states = {state.scope: settled(state, by, now) for state in await guards.states()}
    evidence = await guards.evidence(now - by.window, list(states.values()))
    moved = []
    for scope in dict.fromkeys([*states, *evidence]):
        state = states.get(scope) or GuardState(scope=scope, level=0, since=now - by.window)
        seen = evidence.get(scope) or Evidence(since=state.since, answers=0, cost_eur=Decimal(0))
        following = advance(state, seen, by, now)
        if following is None:
            continue
        figures = {
            "answers": seen.answers,
            "cost_eur": str(seen.cost_eur),
            "since": seen.since.isoformat(),
            "threshold_eur": str(by.threshold_eur),
            "window_s": int(by.window.total_seconds()),
            "min_sample": by.min_sample,
        }
        if await guards.move(following, actor=ACTOR, figures=figures):
            log.warning("guardrail of %s: step %d to %d: %s", scope, state.level, following.level, following.reason)
            moved.append(following)
    return moved


async def put(guards: Guards, scope: str, level: int, *, actor: str, reason: str, now: datetime) -> GuardState:
    """A person decides. Raises PilotisError where somebody else moved it at the same time."""
    before = next((state for state in await guards.states() if state.scope == scope), None)
    before = before or GuardState(scope=scope, level=0, since=now)
    after = _moved(before, level, now, reason, recovering=False, trips=0)
    if not await guards.move(after, actor=actor, figures={}):
        raise PilotisError(f"the guardrail of {scope} was moved at the same moment", remedy="look again, and try again")
    return after


async def reset(guards: Guards, *, actor: str, now: datetime) -> list[GuardState]:
    """A person brings the full service back to everybody; return those that moved. Raises as `put` does."""
    bent = [state.scope for state in await guards.states() if state.level]
    return [await put(guards, scope, 0, actor=actor, reason="reset by hand", now=now) for scope in bent]


def step_of(env: Env, name: str) -> int:
    """The level of a step by its name, such as `compact_model`, or by its number. Raises Invalid for one that the ladder has not."""
    names = [rung.step for rung in rungs(env)]
    if name in names:
        return names.index(name)
    if name.isascii() and name.isdecimal() and int(name[:4]) < len(names):
        return int(name[:4])
    raise Invalid(f"the ladder of env {env.name!r} has no step {name!r}", remedy=f"name one of: {', '.join(names)}")


async def standing(guards: Guards, env: Env, *, now: datetime, last: int = 10, bu: str | None = None) -> Mapping[str, Any]:
    """Where every scope stands and why, what answers cost there, and the `last` moves, latest first.

    With `bu` it is what that business unit may know: its own scope and, as `in_force`, the step at which it is served.
    """
    by = rule(env)
    names = [rung.step for rung in rungs(env)]
    states = {state.scope: state for state in await guards.states()}
    evidence = await guards.evidence(now - by.window, list(states.values())) if by else {}
    moves = await guards.history(limit=last, scope=None if bu is None else f"bu:{bu}")
    of_env = states["env"].level if "env" in states else 0

    def row(scope: str) -> dict[str, Any]:
        state = states.get(scope) or GuardState(scope=scope, level=0, since=now)
        seen = evidence.get(scope)
        level, in_force = (min(level, len(names) - 1) for level in (state.level, max(state.level, of_env)))
        return {
            "scope": scope,
            "level": level,
            "step": names[level],
            "in_force": names[in_force],
            "since": state.since if scope in states else None,
            "reason": state.reason,
            "answers": seen.answers if seen else 0,
            "mean_eur": seen.cost_eur / seen.answers if seen and seen.answers else None,
            "recovers_at": (by or untripped(env)).recovers_at(state),
        }

    return {
        "env": env.name,
        "threshold_eur": env.guardrail_eur_per_req,
        "window_s": env.guardrail_window_s,
        "min_sample": env.guardrail_min_sample,
        "ladder": names,
        "scopes": [row(scope) for scope in (dict.fromkeys(["env", *states, *evidence]) if bu is None else [f"bu:{bu}"])],
        "moves": [dict(move) for move in moves],
    }


def _moved(state: GuardState, level: int, now: datetime, reason: str, *, recovering: bool, trips: int) -> GuardState:
    return replace(state, level=level, since=now, reason=reason, recovering=recovering, trips=trips, version=state.version + 1)


def _eur(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('0.000001')).normalize():f} EUR"
