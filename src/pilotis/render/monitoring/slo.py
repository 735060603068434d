"""What is asked of the service: errors and late answers as the speed at which their budget burns, in several windows.

The windows and factors are those of the Site Reliability Workbook, chapter 5: 2 % of thirty days' budget in an hour, 5 % in six hours,
10 % in a day, 10 % in three days. Each is asked over a twelfth of its time as well, so that an alert ends soon after its cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from pilotis.contract.infra import Severity
from pilotis.derive.names import METRICS
from pilotis.derive.site import Site
from pilotis.render.files import Scene
from pilotis.render.monitoring.alert import Alert, Case, Recording, number

LEAST_EVENTS = 50
"""Requests in the long window below which a share of them says nothing: at 14.4 times a budget of 1 %, seven of them failed."""
LATE = Decimal("0.05")
"""Share that may be late: what a 95th percentile leaves."""
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """The budget burns `factor` times as fast as it may, over both windows."""

    short: str
    long: str
    factor: Decimal


BURNS: tuple[tuple[str, Severity, str, tuple[Burn, Burn]], ...] = (
    (
        "Fast",
        "page",
        "2m",
        (Burn(short="5m", long="1h", factor=Decimal("14.4")), Burn(short="30m", long="6h", factor=Decimal(6))),
    ),
    (
        "Slow",
        "ticket",
        "15m",
        (Burn(short="2h", long="1d", factor=Decimal(3)), Burn(short="6h", long="3d", factor=Decimal(1))),
    ),
)
"""What ends the alert's name, its severity, how long it has to hold, and the windows, either of which is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A share of requests that may go wrong. `record` is its ratio without the window, `events` the count without the window."""

    name: str
    record: str
    events: str
    budget: Decimal
    what: str


def bucket_s(p95_ms: int) -> float:
    """The histogram's bound, in seconds, that stands for `slo.p95_ms`: the first that is not below it, else the last there is.

    An answer between the two counts as in time; the histogram cannot tell it from others.
    """
    bounds = METRICS["rag_request_seconds"].buckets
    return next((bound for bound in bounds if bound * 1000 >= p95_ms), bounds[-1])


def objectives(scene: Scene) -> tuple[Objective, ...]:
    slo = scene.plan.contract.slo
    errors = Objective(
        name="ErrorBudgetBurn",
        record="rag:requests_failed:ratio",
        events="rag:requests:increase",
        budget=slo.error_rate,
        what="requests fail",
    )
    if slo.p95_ms is None:
        return (errors,)
    late = Objective(
        name="LatencyBudgetBurn",
        record="rag:answers_late:ratio",
        events="rag:answers:increase",
        budget=LATE,
        what=f"answers take longer than {bucket_s(slo.p95_ms):g} s (the histogram's bound for slo.p95_ms = {slo.p95_ms})",
    )
    return (errors, late)


def recordings(scene: Scene) -> Iterator[Recording]:
    p95_ms = scene.plan.contract.slo.p95_ms
    for window in WINDOWS:
        yield _recording(f"rag:requests:increase{window}", f"sum(increase(rag_requests_total[{window}]))", "requests")
        yield _recording(
            f"rag:requests_failed:ratio{window}",
            f'sum(rate(rag_requests_total{{outcome="failed"}}[{window}]))\n/ (sum(rate(rag_requests_total[{window}])) > 0)',
            "ratio",
        )
        if p95_ms is None:
            continue
        bound = f'rag_request_seconds_bucket{{kind="ask",le="{bucket_s(p95_ms)}"}}'
        yield _recording(
            f"rag:answers:increase{window}", f'sum(increase(rag_request_seconds_count{{kind="ask"}}[{window}]))', "requests"
        )
        yield _recording(
            f"rag:answers_late:ratio{window}",
            f'1 - sum(rate({bound}[{window}]))\n/ (sum(rate(rag_request_seconds_count{{kind="ask"}}[{window}])) > 0)',
            "ratio",
        )


def alerts(scene: Scene, site: Site) -> Iterator[Alert]:  # noqa: ARG001 (every part is asked alike)
    for objective in objectives(scene):
        for ending, severity, for_, burns in BURNS:
            able = [burn for burn in burns if burn.factor * objective.budget < 1]
            if able:
                yield _alert(scene, objective, ending, severity=severity, for_=for_, burns=able)


def threshold(burn: Burn, objective: Objective) -> str:
    return number(burn.factor * objective.budget)


def _recording(name: str, expr: str, units: str) -> Recording:
    return Recording(name=name, group="service", expr=expr, labels=(), units=units)


def _alert(scene: Scene, objective: Objective, ending: str, *, severity: Severity, for_: str, burns: list[Burn]) -> Alert:
    parts = [
        f"({objective.record}{burn.long} > {threshold(burn, objective)}\n"
        f"and {objective.record}{burn.short} > {threshold(burn, objective)}\n"
        f"and {objective.events}{burn.long} >= {LEAST_EVENTS})"
        for burn in burns
    ]
    pace = " or ".join(f"{number(burn.factor)} times over {burn.long} and {burn.short}" for burn in burns)
    return Alert(
        name=f"{objective.name}{ending}",
        group="service",
        expr="\nor ".join(parts),
        for_=for_,
        severity=severity,
        summary=f"Too many {objective.what}.",
        description=f"The budget of {number(objective.budget * 100)} % burns faster than it may: {pace}.",
        units="ratio",
        sample=LEAST_EVENTS,
        cases=_cases(scene, objective, burns),
    )


def _cases(scene: Scene, objective: Objective, burns: list[Burn]) -> tuple[Case, ...]:
    hours = 25 if burns[0].long == "1d" else 2
    minutes = hours * 60 + 60
    few = _series(scene, objective, good=0, bad=10, minutes=0)
    return (
        Case(
            why="all go wrong",
            series=_series(scene, objective, good=0, bad=10, minutes=minutes),
            at=f"{hours}h",
            fires=({},),
        ),
        Case(why="all are well", series=_series(scene, objective, good=10, bad=0, minutes=minutes), at=f"{hours}h"),
        Case(why="nobody asks", series=_series(scene, objective, good=0, bad=0, minutes=minutes), at=f"{hours}h"),
        Case(
            why="too few to say",
            series={name: f"0x{hours * 60 - 4} 10x60" if "+10x" in values else f"0x{minutes}" for name, values in few.items()},
            at=f"{hours}h",
        ),
    )


def _series(scene: Scene, objective: Objective, *, good: int, bad: int, minutes: int) -> dict[str, str]:
    if objective.name.startswith("Error"):
        return {
            'rag_requests_total{kind="ask",outcome="answered"}': f"0+{good}x{minutes}",
            'rag_requests_total{kind="ask",outcome="failed"}': f"0+{bad}x{minutes}",
        }
    p95_ms = scene.plan.contract.slo.p95_ms
    assert p95_ms is not None
    return {
        f'rag_request_seconds_bucket{{kind="ask",le="{bucket_s(p95_ms)}"}}': f"0+{good}x{minutes}",
        'rag_request_seconds_count{kind="ask"}': f"0+{good + bad}x{minutes}",
    }
