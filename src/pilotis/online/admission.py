"""Before a question is worked on: may it be, at which step of the guardrail, and was it answered before. One round trip."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from pilotis.derive.budget import WINDOWS, spans
from pilotis.derive.cost import ceiling, unpriced
from pilotis.derive.ladder import Rung, rungs
from pilotis.derive.limits import guarded
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Limited, SetupError, Transient
from pilotis.online.ask import Ask
from pilotis.online.cache import answer_keys, passages_keys
from pilotis.online.timing import Stopwatch
from pilotis.ports import Admitted, CachedAnswer, Deps, Hold, Request
from pilotis.rag.question import Question

log = logging.getLogger(__name__)

Kind = Literal["answer", "search"]

FIRST_LOOK_S, LONGEST_PAUSE_S = 0.01, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request that is in."""

    hold: Hold
    rung: Rung
    """The step of the ladder it is served at."""
    answer: CachedAnswer | None = None
    passages: bytes | None = None
    answer_key: str | None = None
    """Where its answer is to be kept; None where it is not."""
    passages_key: str | None = None


async def enter(ask: Ask, question: Question, env: Env, plan: Plan, deps: Deps, *, kind: Kind, watch: Stopwatch) -> Entry:
    """Admit a request, or find its answer; where another request writes it just now, wait for that one.

    Raises:
        Limited: a rate, a budget or the guardrail refuses, or the answer waited for did not come in time.
        SetupError: a model has no price, and the contract says not to guess.
        Transient: budgets cannot be kept because the meter is away, and the contract says to refuse then.
    """
    ladder = steps(env, ask.top_k)
    _require_prices(kind, env, plan)
    request = Request(
        id=str(uuid.uuid4()),
        plane="batch" if ask.evaluates else "online",
        kind="eval" if ask.evaluates else kind,
        bu=ask.bu,
        ceilings=_ceilings(kind, ladder, plan),
        key=ask.key,
        key_budget=ask.key_budget,
        ip=ask.ip,
        weight=_weight(kind, ladder, env, plan),
        answer_keys=answer_keys(ask, question, ladder, deps) if kind == "answer" and not ask.evaluates else (),
        passages_keys=() if ask.evaluates else passages_keys(ask, question, ladder, deps),
        streamed=ask.streamed,
    )
    with watch.stage("admit"):
        try:
            admitted = await _admit(request, env, deps)
        except Transient as error:
            return _unmetered(request, ladder, env, deps, error)
    _count(request, admitted, deps)
    return _entry(request, admitted, ladder)


@lru_cache(maxsize=1024)
def steps(env: Env, top_k: int | None) -> tuple[Rung, ...]:
    """The env's ladder for a caller who wants so many passages: at a cheaper step no more than the step allows."""
    if top_k is None:
        return rungs(env)
    return tuple(
        replace(rung, env=replace(rung.env, top_k=top_k if rung.step == "full" else min(top_k, rung.env.top_k)))
        for rung in rungs(env)
    )


async def _admit(request: Request, env: Env, deps: Deps) -> Admitted:
    ends = time.monotonic() + env.total_s
    admitted = await deps.admission.admit(request)
    while admitted.flight == "other":
        deps.meter.count("rag_cache_total", cache="answer", result="wait")
        landed = await _landing(request, admitted, deps, ends=ends)
        if landed is not None:
            return replace(admitted, answer=landed, flight=None)
        admitted = await deps.admission.admit(replace(request, resumed=True))
    return admitted


async def _landing(request: Request, admitted: Admitted, deps: Deps, *, ends: float) -> CachedAnswer | None:
    """The answer another request is writing, or None as soon as that one has ended without leaving any."""
    key = request.answer_keys[min(admitted.level, len(request.answer_keys) - 1)]
    pause_s = FIRST_LOOK_S
    while time.monotonic() < ends:
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads those who wait, protects nothing
        answer, flying = await deps.cache.peek(request.bu, key, streamed=request.streamed)
        if answer is not None or not flying:
            return answer
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    raise Limited(
        "the same question is being answered for somebody else, and that takes long",
        remedy="ask again in a moment",
        status=503,
        code="overloaded",
    )


def _entry(request: Request, admitted: Admitted, ladder: tuple[Rung, ...]) -> Entry:
    level = min(admitted.level, len(ladder) - 1)
    return Entry(
        hold=admitted.hold,
        rung=ladder[level],
        answer=admitted.answer,
        passages=admitted.passages,
        answer_key=request.answer_keys[level] if request.answer_keys else None,
        passages_key=request.passages_keys[level] if request.passages_keys else None,
    )


def _unmetered(request: Request, ladder: tuple[Rung, ...], env: Env, deps: Deps, error: Transient) -> Entry:
    """What costs nothing needs no meter, and what no budget limits neither; for the rest the contract decides.

    It is served at the step of the ladder that this process knew last. Raises Limited where that is one without an answer of its own.
    """
    level, scope = (0, "env") if request.plane == "batch" else deps.admission.level(request.bu)
    level = min(level, len(ladder) - 1)
    if ladder[level].serves != "all":
        raise guarded(ladder[level].step, scope)
    applying = env.budgets.apply(plane=request.plane, bu=request.bu, key=request.key, own=request.key_budget)
    limited = any(budget.limit(window) is not None for budget in applying.values() for window in WINDOWS)
    if limited and request.ceilings[level] > 0 and env.on_meter_down == "refuse":
        raise error
    log.warning("request %s is served without budgets and caches: %s", request.id, error.message)
    now = datetime.now(UTC)
    hold = Hold(
        id=request.id,
        at=now,
        plane=request.plane,
        bu=request.bu,
        key=request.key,
        micro=0,
        spans=spans(now, env.timezone),
        is_metered=False,
    )
    return Entry(hold=hold, rung=ladder[level])


def _count(request: Request, admitted: Admitted, deps: Deps) -> None:
    if request.answer_keys:
        deps.meter.count("rag_cache_total", cache="answer", result="hit" if admitted.answer else "miss")
    if request.passages_keys and not admitted.answer:
        deps.meter.count("rag_cache_total", cache="passages", result="hit" if admitted.passages else "miss")


def _require_prices(kind: Kind, env: Env, plan: Plan) -> None:
    missing = _unpriced(kind, env, plan)
    if missing:
        raise SetupError(
            f"no price is known for {', '.join(missing)}, and without one no budget can be kept",
            remedy=f'write [costs.prices."{missing[0]}"] into the contract, or costs.on_unknown_price = "serve"',
        )


@lru_cache(maxsize=64)
def _unpriced(kind: Kind, env: Env, plan: Plan) -> tuple[str, ...]:
    return unpriced(env, plan, kind=kind)


@lru_cache(maxsize=1024)
def _ceilings(kind: Kind, ladder: tuple[Rung, ...], plan: Plan) -> tuple[int, ...]:
    return tuple(ceiling(rung.env, plan, kind=kind).micro for rung in ladder)


def _weight(kind: Kind, ladder: tuple[Rung, ...], env: Env, plan: Plan) -> float:
    """A request that may cost three times what was agreed for one counts as three."""
    if env.guardrail_eur_per_req is None:
        return 1.0
    return max(1.0, _ceilings(kind, ladder, plan)[0] / float(env.guardrail_eur_per_req * 1_000_000))
