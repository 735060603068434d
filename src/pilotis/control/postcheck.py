"""The checks after a deployment, as one table: each with what was measured, what the contract allows, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from pilotis.contract.model import Slo
from pilotis.control.slowness import quantile_ms
from pilotis.derive.plan import Env
from pilotis.ports.releases import Outcome, Traffic

WINDOW = timedelta(minutes=15)
ALERT_FLOOD = 5
"""Alerts at once from which on nobody reads them one by one."""
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of the release that is looked at. None stands for what nobody could say, or what is not set up."""

    traffic: Traffic | None
    """Of the last 15 minutes."""
    alerts: int | None = None
    """That fire now."""
    spent_eur: Decimal | None = None
    """This month, by the whole env."""
    month_eur: Decimal | None = None
    """The most it may; None for no limit."""
    guardrail: str = "full"
    """The step at which the service stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One check."""

    name: str
    seen: str
    wanted: str
    outcome: Outcome


def rows(observed: Observed, slo: Slo, env: Env) -> tuple[Row, ...]:
    """Every check of the list, whether it could be measured or not: what was not looked at is not fine."""
    seen = observed.traffic
    answered = seen is not None and seen.requests > 0
    return (
        _golden(seen, slo),
        _time("P50", 0.50, seen, None),
        _time("P95", 0.95, seen, slo.p95_ms),
        _cost(seen, slo.eur_per_req if slo.eur_per_req is not None else env.guardrail_eur_per_req),
        _share("HTTP errors", seen.errors / seen.requests if seen and answered else None, slo.error_rate),
        _share("processor and memory", seen.saturation if seen else None, min(slo.cpu, slo.ram)),
        _alerts(observed.alerts),
        _budget(observed),
        Row(
            name="guardrail",
            seen=observed.guardrail,
            wanted="full",
            outcome="pass" if observed.guardrail == "full" else "fail",
        ),
    )


def outcome(found: Sequence[Row]) -> Outcome:
    """Of all: a failure wins over what is not known, and that over what is fine."""
    outcomes = {row.outcome for row in found}
    return "fail" if "fail" in outcomes else "inconclusive" if outcomes - {"pass"} else "pass"


def _golden(seen: Traffic | None, slo: Slo) -> Row:
    wanted = "no objective" if slo.hit_at_5 is None else f"at least {_percent(slo.hit_at_5)}"
    if seen is None or not seen.asked:
        return Row(name="hit@5", seen=NOT_MEASURED, wanted=wanted, outcome="pass" if slo.hit_at_5 is None else "inconclusive")
    share = Decimal(seen.hits) / seen.asked
    good = slo.hit_at_5 is None or share >= slo.hit_at_5
    return Row(
        name="hit@5",
        seen=f"{_percent(share)} of {seen.asked} golden questions",
        wanted=wanted,
        outcome="pass" if good else "fail",
    )


def _time(name: str, share: float, seen: Traffic | None, limit_ms: int | None) -> Row:
    wanted = "no objective" if limit_ms is None else f"at most {limit_ms} ms"
    if seen is None or not seen.requests:
        return Row(name=name, seen=NOT_MEASURED, wanted=wanted, outcome="inconclusive")
    ms = quantile_ms(seen.latency, share)
    text = "beyond the longest that is told apart" if ms is None else f"{ms:.0f} ms over {seen.requests} requests"
    good = limit_ms is None or (ms is not None and ms <= limit_ms)
    return Row(name=name, seen=text, wanted=wanted, outcome="pass" if good else "fail")


def _cost(seen: Traffic | None, limit: Decimal | None) -> Row:
    wanted = "no objective" if limit is None else f"at most {limit} €"
    if seen is None or not seen.requests:
        return Row(name="cost of a request", seen=NOT_MEASURED, wanted=wanted, outcome="inconclusive")
    mean = seen.cost_eur / seen.requests
    good = limit is None or mean <= limit
    return Row(name="cost of a request", seen=f"{mean:.6f} €", wanted=wanted, outcome="pass" if good else "fail")


def _share(name: str, share: float | None, limit: Decimal) -> Row:
    wanted = f"under {_percent(limit)}"
    if share is None:
        return Row(name=name, seen=NOT_MEASURED, wanted=wanted, outcome="inconclusive")
    return Row(name=name, seen=_percent(Decimal(share)), wanted=wanted, outcome="pass" if Decimal(share) < limit else "fail")


def _alerts(firing: int | None) -> Row:
    wanted = f"fewer than {ALERT_FLOOD} at once"
    if firing is None:
        return Row(name="alerts", seen=NOT_MEASURED, wanted=wanted, outcome="inconclusive")
    return Row(name="alerts", seen=f"{firing} firing", wanted=wanted, outcome="pass" if firing < ALERT_FLOOD else "fail")


def _budget(observed: Observed) -> Row:
    if observed.month_eur is None:
        return Row(name="budget of the month", seen=_spent(observed.spent_eur), wanted="no limit", outcome="pass")
    wanted = f"at most {observed.month_eur} €"
    if observed.spent_eur is None:
        return Row(name="budget of the month", seen=NOT_MEASURED, wanted=wanted, outcome="inconclusive")
    good = observed.spent_eur <= observed.month_eur
    return Row(name="budget of the month", seen=_spent(observed.spent_eur), wanted=wanted, outcome="pass" if good else "fail")


def _spent(amount: Decimal | None) -> str:
    return NOT_MEASURED if amount is None else f"{amount:.2f} € spent"


def _percent(share: Decimal) -> str:
    return f"{share * 100:.3g} %"
