"""Whether the budgets, rates and guardrail of an env can do what they are for: findings for `derive.check`."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from pilotis.derive.budget import MICRO, WINDOWS, Budget, Window
from pilotis.derive.cost import ceiling
from pilotis.derive.finding import Finding, above
from pilotis.derive.ladder import rungs
from pilotis.derive.limits import micro_limit

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from pilotis.derive.plan import Env, Plan

LONGEST_MONTH_DAYS = 31


def bounds(env: Env, plan: Plan, today: dt.date) -> Iterator[Finding]:
    """Every finding about one env."""
    yield from _too_small(env, plan, today)
    yield from _ordered(env)
    yield from _overbooked(env)
    yield from _month(env, plan)
    yield from _guardrail(env, plan, today)
    if env.rates.ip is not None and env.trusted_hops == 0:
        yield Finding(
            severity="info",
            code="ip_rate_without_hops",
            env=env.name,
            message=f"{env.name}: rates.ip counts the peer's own address; behind a proxy all callers would share that of the proxy",
            remedy="Behind a proxy, write how many there are: trusted_hops = 1 in [infra].",
        )


def online(env: Env) -> Iterator[tuple[str, Budget]]:
    """The budgets that limit questions and searches, each with its key in the contract."""
    budgets = env.budgets
    yield "budgets.env", budgets.env
    if "online" in budgets.planes:
        yield "budgets.planes.online", budgets.planes["online"]
    yield "budgets.bu", budgets.bu
    for name, budget in budgets.bus.items():
        yield f"budgets.bus.{name}", budget
    yield "budgets.key", budgets.key


def _too_small(env: Env, plan: Plan, today: dt.date) -> Iterator[Finding]:
    most = ceiling(env, plan, at=today).micro
    for key, budget in online(env):
        for window in WINDOWS:
            limit = micro_limit(budget, window)
            if limit is not None and most > limit:
                shown, bound = above(most / MICRO, limit / MICRO, 4)
                yield Finding(
                    severity="error",
                    code="ceiling_above_budget",
                    env=env.name,
                    message=(
                        f"{env.name}: one answer can cost {shown} and {key} allows {bound} per {window}: none would ever be admitted"
                    ),
                    remedy=f"Raise {window}_eur, or lower perf.tok_in_max, perf.tok_out_max or {env.name}.top_k.",
                    figures={"ceiling_eur": most / MICRO, f"{window}_eur": limit / MICRO},
                )


def _ordered(env: Env) -> Iterator[Finding]:
    pairs: tuple[tuple[Window, Window], ...] = (("hour", "day"), ("day", "month"), ("hour", "month"))
    for key, budget in online(env):
        for shorter, longer in pairs:
            low, high = budget.limit(shorter), budget.limit(longer)
            if low is not None and high is not None and low > high:
                yield Finding(
                    severity="warning",
                    code="limit_never_reached",
                    env=env.name,
                    message=f"{env.name}: {key} allows {low:f} € per {shorter} and {high:f} € per {longer}: the {shorter}'s never counts",
                    remedy=f"Lower {shorter}_eur or leave it out.",
                    figures={f"{shorter}_eur": low, f"{longer}_eur": high},
                )


def _overbooked(env: Env) -> Iterator[Finding]:
    for window in WINDOWS:
        whole = env.budgets.env.limit(window)
        parts = [limit for budget in env.budgets.bus.values() if (limit := budget.limit(window)) is not None]
        if whole is not None and sum(parts) > whole:
            yield Finding(
                severity="info",
                code="budgets_overbooked",
                env=env.name,
                message=(
                    f"{env.name}: {len(parts)} business units may spend {sum(parts):f} € per {window} together, the env {whole:f} €: "
                    "who comes late finds nothing left"
                ),
                remedy=f"Keep it if they never spend it all at once; else lower their {window}_eur.",
                figures={"bus_eur": Decimal(sum(parts)), "env_eur": whole},
            )


def _month(env: Env, plan: Plan) -> Iterator[Finding]:
    month, target = env.budgets.env.month_eur, env.target_eur_per_1k
    requests = plan.contract.envs[env.name].requests_per_day
    if month is None or target is None:
        return
    if requests is not None and (cost := requests * LONGEST_MONTH_DAYS * target / 1000) > month:
        shown, bound = above(cost, month, 2)
        yield Finding(
            severity="warning",
            code="month_budget_short",
            env=env.name,
            message=(
                f"{env.name}: {requests:,} requests a day at the target of {target:.2f} €/1k cost {shown} in {LONGEST_MONTH_DAYS} days, "
                f"the month's budget is {bound}: it may be spent on day {int(month * 1000 / (requests * target)) + 1}"
            ),
            remedy="Raise the month's budget, or lower the target to what requests really cost.",
            figures={"expected_eur": cost, "month_eur": month, "requests_per_day": requests},
        )
    rate = env.rates.env
    spread = env.budgets.env.hour_eur is not None or env.budgets.env.day_eur is not None
    if rate is not None and not spread and (lasts_s := month * 1000 / target / rate.per_s) < 86_400 * LONGEST_MONTH_DAYS:
        yield Finding(
            severity="info",
            code="month_budget_at_full_rate",
            env=env.name,
            message=(
                f"{env.name}: the month's budget of {month:f} € pays for {int(month * 1000 / target):,} requests at the target of "
                f"{target:.2f} €/1k; at {rate.per_s:f} requests a second they last {lasts_s / 3600:.1f} h"
            ),
            remedy=f"Write day_eur or hour_eur in [envs.{env.name}.budgets], to spread the month's money.",
            figures={"requests": int(month * 1000 / target), "lasts_s": int(lasts_s)},
        )


def _guardrail(env: Env, plan: Plan, today: dt.date) -> Iterator[Finding]:
    if env.guardrail_eur_per_req is None or ceiling(env, plan, at=today).micro == 0:
        return
    ladder = rungs(env)
    if len(ladder) == 1:
        yield Finding(
            severity="warning",
            code="guardrail_without_effect",
            env=env.name,
            message=f"{env.name}: no step of costs.ladder changes anything here, so the guardrail can only watch",
            remedy="Add cache_only or refuse to costs.ladder, or name a compact model.",
        )
    for before, rung in pairwise(ladder):
        was, now = ceiling(before.env, plan, at=today).micro, ceiling(rung.env, plan, at=today).micro
        if rung.step == "compact_model" and now >= was:
            shown, bound = above(now / MICRO, was / MICRO, 4)
            yield Finding(
                severity="warning",
                code="compact_saves_nothing",
                env=env.name,
                message=(
                    f"{env.name}: an answer of {rung.env.llm.model} can cost {shown}, one of {before.env.llm.model} {bound}: "
                    "the step compact_model saves nothing"
                ),
                remedy="Name a cheaper model as compact.",
                figures={"compact_eur": now / MICRO, "llm_eur": was / MICRO},
            )
    yield from _sample(env, plan)


def _sample(env: Env, plan: Plan) -> Iterator[Finding]:
    """A guardrail that never hears enough answers to speak."""
    window, needed = env.guardrail_window_s, env.guardrail_min_sample
    rate, requests = env.rates.env, plan.contract.envs[env.name].requests_per_day
    if rate is not None and (most := int(rate.per_s * window) + rate.burst) < needed:
        yield Finding(
            severity="warning",
            code="sample_out_of_reach",
            env=env.name,
            message=(
                f"{env.name}: the guardrail asks for {needed} answers in {window} s; the rate limit of {rate.per_s:f} a second "
                f"lets {most} through"
            ),
            remedy="Lower costs.guardrail_min_sample or take a longer costs.guardrail_window_s.",
            figures={"guardrail_min_sample": needed, "most": most},
        )
    elif requests is not None and (usual := requests * window // 86_400) < needed:
        yield Finding(
            severity="info",
            code="sample_rarely_reached",
            env=env.name,
            message=(
                f"{env.name}: the guardrail asks for {needed} answers in {window} s; {requests:,} requests a day make {usual} on average"
            ),
            remedy="Lower costs.guardrail_min_sample or take a longer costs.guardrail_window_s.",
            figures={"guardrail_min_sample": needed, "usual": usual},
        )
