"""What the service spends: by the gauges of the counters that budgets are kept by, which hold every plane and end with their window.

Counters of processes say what a request costs; they are no sum of money, since a process that is not scraped is missing in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.site import Site
from pilotis.render.files import Scene
from pilotis.render.monitoring.alert import Alert, Case, Recording, number, span

HOUR_SHARE = Decimal("0.9")
"""Of the hour's budget: what is left lets requests pass for minutes."""
MONTH_SHARE = Decimal("0.8")
ANOMALY = 3
"""Times what the same hour cost a week ago."""
LEAST_EUR = 1
"""Euros in an hour below which a comparison with last week says nothing."""
SILENT_REQUESTS = 50
"""Answers that a model wrote in a quarter of an hour without a cent: more than chance."""
FAST, SLOW = Decimal("0.02"), Decimal("0.05")
"""Of the month's budget: in one hour (14.4 times an even pace), in six (6 times)."""
OUTBOX_EVENTS = 100
BY_SCOPE = ("scope", "bu")


def window(site: Site) -> str:
    """Over which a request's mean cost is taken: `costs.guardrail_window_s`."""
    return span(site.env.guardrail_window_s)


def recordings(scene: Scene, site: Site) -> Iterator[Recording]:  # noqa: ARG001 (every part is asked alike)
    for what in ("spent", "limit"):
        for per in ("hour", "month"):
            yield _scoped(f"rag:budget_{what}_eur:{per}", f'max by (scope) (rag_budget_{what}_eur{{window="{per}"}})')
    month = "rag:budget_spent_eur:month"
    for back in ("5m", "30m", "1h", "6h"):
        # Negative where the month began in between, which says nothing.
        yield _record(f"{month}_delta{back}", f"({month} - ({month} offset {back})) >= 0", BY_SCOPE, "EUR")
    yield _record(
        "rag:seconds_left_in_month",
        "(days_in_month() - day_of_month() + 1) * 86400 - hour() * 3600 - minute() * 60",
        (),
        "s",
    )
    yield _record(
        f"{month}_forecast",
        f"{month} + {month}_delta6h / 21600 * on() group_left() rag:seconds_left_in_month",
        BY_SCOPE,
        "EUR",
    )
    asked = f'sum(increase(rag_requests_total{{kind="ask",outcome=~"answered|not_found"}}[{window(site)}]))'
    yield _record(
        f"rag:cost_per_request_eur:{window(site)}",
        f'sum(increase(rag_cost_eur_total{{plane="online"}}[{window(site)}]))\n/ ({asked} >= {site.env.guardrail_min_sample})',
        (),
        "EUR",
    )


def alerts(scene: Scene, site: Site) -> Iterator[Alert]:
    yield from _per_request(scene, site)
    yield from _budgets()
    yield from _anomaly()
    yield from _meter(site)
    yield from _booked()
    yield from _settled()


def _per_request(scene: Scene, site: Site) -> Iterator[Alert]:
    env, goal = site.env, scene.plan.contract.slo.eur_per_req
    over = window(site)
    for name, limit, severity, says in (
        ("CostPerRequestHigh", goal, "ticket", "slo.eur_per_req"),
        ("CostPerRequestOverGuardrail", env.guardrail_eur_per_req, "page", "costs.guardrail_eur_per_req"),
    ):
        if limit is None or not limit:
            continue

        def series(each: Decimal, requests: int = 10, *, hours: int = env.guardrail_window_s // 3600 + 2) -> dict[str, str]:
            count = 60 * hours
            return {
                'rag_cost_eur_total{plane="online",bu="x",model="m"}': f"0+{number(each * requests)}x{count}",
                'rag_requests_total{kind="ask",outcome="answered"}': f"0+{requests}x{count}",
            }

        at = f"{env.guardrail_window_s // 3600 + 1}h"
        enough = env.guardrail_min_sample // 2 + 10
        night = {
            'rag_cost_eur_total{plane="batch",bu="x",model="m"}': f"0+{number(limit * 10)}x{60 * (env.guardrail_window_s // 3600 + 2)}",
            'rag_requests_total{kind="ask",outcome="answered"}': f"0x{60 * (env.guardrail_window_s // 3600 + 2)}",
        }
        yield Alert(
            name=name,
            group="cost",
            expr=f"rag:cost_per_request_eur:{over} > {number(limit)}",
            for_="5m",
            severity="page" if severity == "page" else "ticket",
            summary="Answers cost more than agreed.",
            description=f"Mean cost of an answered question over {over}, plane online, is above {says} = {number(limit)} EUR.",
            units="EUR",
            sample=env.guardrail_min_sample,
            cases=(
                Case(why="half as much again", series=series(limit * Decimal("1.5"), enough), at=at, fires=({},)),
                Case(why="half of it", series=series(limit / 2, enough), at=at),
                Case(why="only batches spend", series=night, at=at),
            ),
        )


def _budgets() -> Iterator[Alert]:
    hour, month = "rag:budget_spent_eur:hour", "rag:budget_spent_eur:month"
    limit = "rag:budget_limit_eur:month"
    yield _budget(
        "BudgetHourNearlySpent",
        f"{hour} > {number(HOUR_SHARE)} * rag:budget_limit_eur:hour",
        "page",
        "2m",
        "The hour's budget is nearly spent.",
        f"{{{{ $labels.scope }}}} spent more than {number(HOUR_SHARE * 100)} % of its hour; requests will be refused.",
        (_money("hour", "95", "100"), _money("hour", "50", "100")),
    )
    yield _budget(
        "BudgetMonthNearlySpent",
        f"{month} > {number(MONTH_SHARE)} * {limit}",
        "ticket",
        "5m",
        "The month's budget is nearly spent.",
        f"{{{{ $labels.scope }}}} spent more than {number(MONTH_SHARE * 100)} % of its month.",
        (_money("month", "85", "100"), _money("month", "70", "100")),
    )
    for name, share, long, short, severity in (
        ("BudgetBurnFast", FAST, "1h", "5m", "page"),
        ("BudgetBurnSlow", SLOW, "6h", "30m", "ticket"),
    ):
        yield _budget(
            name,
            f"{month}_delta{long} > {number(share)} * {limit}\nand {month}_delta{short} > {number(share)} / 12 * {limit}",
            severity,
            "2m",
            "The month's budget burns too fast.",
            f"{{{{ $labels.scope }}}} spent more than {number(share * 100)} % of its month's budget in {long}, and goes on.",
            (_money("month", "0+0.05x500", "100"), _money("month", "10+0.001x500", "100")),
        )
    yield _budget(
        "BudgetForecastOver",
        f"{month}_forecast > {limit}\nand {month} > 0.05 * {limit}",
        "ticket",
        "30m",
        "The month's budget will not last.",
        "{{ $labels.scope }} will have spent more than its month's budget when the month ends, at the pace of the last 6 h.",
        (_money("month", "6+0.01x500", "100"), _money("month", "6+0.0001x500", "100")),
    )


def _anomaly() -> Iterator[Alert]:
    delta = "rag:budget_spent_eur:month_delta1h"
    yield Alert(
        name="CostAnomaly",
        group="cost",
        expr=f"{delta} > {ANOMALY} * (({delta} offset 1w) > {LEAST_EUR})",
        for_="15m",
        severity="ticket",
        summary="This hour costs far more than a week ago.",
        description=f"{{{{ $labels.scope }}}} spent more than {ANOMALY} times what it spent in the same hour a week ago.",
        units="EUR",
        cases=(
            Case(
                why="ten times last week's",
                series={'rag_budget_spent_eur{scope="env",window="month"}': "0+0.03x10080 300+0.3x200"},
                at="170h",
                fires=({"scope": "env"},),
            ),
            Case(
                why="as last week",
                series={'rag_budget_spent_eur{scope="env",window="month"}': "0+0.03x10280"},
                at="170h",
            ),
            Case(
                why="next to nothing last week",
                series={'rag_budget_spent_eur{scope="env",window="month"}': "0+0.0003x10080 3+0.3x200"},
                at="170h",
            ),
        ),
    )


def _meter(site: Site) -> Iterator[Alert]:
    if site.env.llm.model != EXTRACTIVE:
        wrote = (
            'sum(increase(rag_cache_total{cache="answer",result="miss"}[15m]))'
            if site.env.cache_ttl_s
            else 'sum(increase(rag_requests_total{kind="ask",outcome="answered"}[15m]))'
        )
        events = wrote.removeprefix("sum(increase(").removesuffix("[15m]))")
        cost = 'rag_cost_eur_total{plane="online",bu="x",model="m"}'
        yield Alert(
            name="CostMeterSilent",
            group="cost",
            expr=f'({wrote} > {SILENT_REQUESTS})\nunless on() (sum(increase(rag_cost_eur_total{{plane="online"}}[15m])) > 0)',
            for_="5m",
            severity="page",
            summary="Answers are written, and nothing is booked.",
            description=f"More than {SILENT_REQUESTS} questions went to a model in 15 minutes, and cost nothing: budgets do not hold.",
            units="requests",
            sample=SILENT_REQUESTS,
            cases=(
                Case(why="the counter stands still", series={events: "0+10x60", cost: "5x60"}, at="40m", fires=({},)),
                Case(why="costs are booked", series={events: "0+10x60", cost: "0+0.1x60"}, at="40m"),
                Case(why="nobody asks", series={events: "0x60", cost: "5x60"}, at="40m"),
            ),
        )


def _booked() -> Iterator[Alert]:
    yield Alert(
        name="PriceMissing",
        group="cost",
        # The second half sees the first call of a model that nobody foresaw: its counter is born above 0.
        expr="sum by (model) (increase(rag_cost_unpriced_total[15m])) > 0\n"
        "or sum by (model) ((rag_cost_unpriced_total > 0) unless rag_cost_unpriced_total offset 15m) > 0",
        for_="0m",
        severity="ticket",
        summary="A model has no price.",
        description="Calls of {{ $labels.model }} are served without a known price.",
        units="calls",
        cases=(
            Case(
                why="its counter rises",
                series={'rag_cost_unpriced_total{model="m"}': "0x20 1x20"},
                at="25m",
                fires=({"model": "m"},),
            ),
            Case(
                why="its counter is born above 0",
                series={'rag_cost_unpriced_total{model="m"}': "_x20 1x20"},
                at="25m",
                fires=({"model": "m"},),
            ),
            Case(why="all have one", series={'rag_cost_unpriced_total{model="m"}': "0x40"}, at="25m"),
        ),
    )


def _settled() -> Iterator[Alert]:
    yield Alert(
        name="OutboxNotEmptied",
        group="cost",
        expr=f"max(rag_outbox_events) > {OUTBOX_EVENTS}",
        for_="10m",
        severity="ticket",
        summary="Settled costs do not reach the ledger.",
        description=f"More than {OUTBOX_EVENTS} settled costs have waited for 10 minutes; they count for budgets, reports lack them.",
        units="events",
        cases=(
            Case(why="the ledger is away", series={"rag_outbox_events": "0+50x40"}, at="30m", fires=({},)),
            Case(why="it is emptied", series={"rag_outbox_events": "5x40"}, at="30m"),
        ),
    )
    yield Alert(
        name="HoldsLost",
        group="cost",
        expr="sum(increase(rag_holds_lost_total[1h])) > 0",
        for_="0m",
        severity="info",
        summary="Processes died with requests in hand.",
        description="What those requests held expired, and counts as spent.",
        units="holds",
        cases=(
            Case(why="one expired", series={"rag_holds_lost_total": "0x20 1x60"}, at="30m", fires=({},)),
            Case(why="none", series={"rag_holds_lost_total": "3x80"}, at="30m"),
        ),
    )


def _budget(  # noqa: PLR0917 (the columns of a table)
    name: str,
    expr: str,
    severity: str,
    for_: str,
    summary: str,
    description: str,
    values: tuple[dict[str, str], dict[str, str]],
) -> Alert:
    high, low = values
    unit = {series.replace('"env"', '"bu:sales"'): points for series, points in high.items()}
    return Alert(
        name=name,
        group="cost",
        expr=expr,
        for_=for_,
        severity="page" if severity == "page" else "ticket",
        summary=summary,
        description=description,
        units="EUR",
        cases=(
            Case(why="too much", series=high, at="8h", fires=({"scope": "env"},)),
            Case(why="too much of one business unit", series=unit, at="8h", fires=({"scope": "bu:sales", "bu": "sales"},)),
            Case(why="as planned", series=low, at="8h"),
            Case(why="no limit", series={name: v for name, v in high.items() if "limit" not in name}, at="8h"),
        ),
    )


def _money(per: str, spent: str, limit: str) -> dict[str, str]:
    return {
        f'rag_budget_spent_eur{{scope="env",window="{per}"}}': spent if "x" in spent else f"{spent}x500",
        f'rag_budget_limit_eur{{scope="env",window="{per}"}}': f"{limit}x500",
    }


def _record(name: str, expr: str, labels: tuple[str, ...], units: str) -> Recording:
    return Recording(name=name, group="cost", expr=expr, labels=labels, units=units)


def _scoped(name: str, expr: str) -> Recording:
    """With the label `bu` where the scope is one, by which receivers are chosen."""
    return _record(name, f'label_replace({expr}, "bu", "$1", "scope", "bu:(.+)")', BY_SCOPE, "EUR")
