"""The guardrail: where answers cost more than agreed on average, the service bends step by step, and straightens up again.

It watches a ratio, which alone bounds no money: exactly at 0.02 EUR and 200 requests a second an hour costs 14,400 EUR. Budgets bound
money (`ports.Admission`); this bounds what one answer costs, and says so in each answer that a cheaper step served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pilotis.derive.ladder import rungs
from pilotis.derive.plan import Env
from pilotis.errors import PilotisError
from pilotis.ports import Evidence, Guards, GuardState, Meter

log = logging.getLogger(__name__)

RECOVERED = Decimal("0.8")
"""Below this share of the threshold a step down is tried: not just below it, or it would be tripped again at once."""
DWELLS_PER_WINDOW = 6
LONGEST_DOUBLING = 4
EVERY_S = 5.0
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


def advance(state: GuardState, evidence: Evidence, by: Rule, now: datetime) -> GuardState | None:
    """The next state, or None where it stays.

    One step up on a mean above the threshold, over a full sample gathered since the last move: each step is given the chance to
    help. One step down once the step has lasted, on a mean well below or for lack of answers: nothing is served from a step that
    serves nothing, so only trying tells. Whoever is tripped again while recovering waits twice as long the next time (hysteresis,
    with a bound), since at a cheaper step the mean is lower because of the step.
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
    if level == 0:
        return None
    if now - state.since < by.dwell * 2 ** min(state.trips, LONGEST_DOUBLING):
        return None
    if sampled and mean > RECOVERED * by.threshold_eur:
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
    by = rule(env)
    meter.gauge("rag_guardrail_level", 0, scope="env")
    while True:
        try:
            if by and await leads():
                await look(guards, by, now=clock())
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


def _moved(state: GuardState, level: int, now: datetime, reason: str, *, recovering: bool, trips: int) -> GuardState:
    return replace(state, level=level, since=now, reason=reason, recovering=recovering, trips=trips, version=state.version + 1)


def _eur(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('0.000001')).normalize():f} EUR"
