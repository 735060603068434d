"""Grafana's dashboards: service, cost, batch, release. Each panel is a title, a unit and questions to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.site import Site
from pilotis.derive.workload import roles
from pilotis.render.files import Scene
from pilotis.render.monitoring.alert import number
from pilotis.render.monitoring.cost import window
from pilotis.render.monitoring.service import job
from pilotis.render.monitoring.slo import bucket_s

SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """`questions` are pairs of PromQL and the legend; `limit`, in the panel's unit, is drawn as a line."""

    title: str
    unit: str
    questions: tuple[tuple[str, str], ...]
    limit: float | None = None


def dashboards(scene: Scene, site: Site) -> dict[str, dict[str, Any]]:
    """Each by the name of its file."""
    made = {
        "service": tuple(_service(scene, site)),
        "cost": tuple(_cost(scene, site)),
        "batch": tuple(_batch()),
        "release": tuple(_release()),
    }
    return {name: _dashboard(scene, site, name, panels) for name, panels in made.items()}


def _one(title: str, unit: str, question: str, legend: str = "", limit: float | None = None) -> Panel:
    return Panel(title=title, unit=unit, questions=((question, legend),), limit=limit)


def _p95(metric: str, *, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.95, sum by ({labels}) (rate({metric}_bucket{where}[5m])))"


def _service(scene: Scene, site: Site) -> Iterator[Panel]:
    slo, api, env = scene.plan.contract.slo, roles(site)[0], site.env
    late_s = bucket_s(slo.p95_ms) if slo.p95_ms else None
    yield _one("Requests", "reqps", "sum by (kind, outcome) (rate(rag_requests_total[5m]))", "{{kind}} {{outcome}}")
    yield _one("Share that fails, 1 h", "percentunit", "rag:requests_failed:ratio1h", "", float(slo.error_rate))
    yield _one("Answers, 95th percentile", "s", _p95("rag_request_seconds", where='{kind="ask"}'), "p95", late_s)
    yield _one("First piece, 95th percentile", "s", _p95("rag_first_byte_seconds"), "p95", env.first_byte_s)
    yield _one("Steps, 95th percentile", "s", _p95("rag_stage_seconds", by="stage"), "{{stage}}")
    yield _one("Turned away", "reqps", "sum by (code) (rate(rag_limited_total[5m]))", "{{code}}")
    yield _one("Processes that answer", "none", f"count(up{{{job(site)}}} == 1)", "processes")
    yield _one("Requests under way", "none", "sum(rag_in_flight)", "in flight", env.in_flight)
    yield _one(
        "Processor",
        "percentunit",
        f"rate(process_cpu_seconds_total{{{job(site)}}}[5m]) / {number(api.vcpu)}",
        "{{instance}}",
        float(slo.cpu),
    )
    yield _one("Memory", "bytes", f"process_resident_memory_bytes{{{job(site)}}}", "{{instance}}")
    yield _one("Look-ups of the caches", "reqps", "sum by (cache, result) (rate(rag_cache_total[5m]))", "{{cache}} {{result}}")
    yield _one("Step of the guardrail", "none", "max by (scope) (rag_guardrail_level)", "{{scope}}")


def _cost(scene: Scene, site: Site) -> Iterator[Panel]:
    goal = scene.plan.contract.slo.eur_per_req
    yield Panel(
        title="Month, by scope",
        unit="currencyEUR",
        questions=(
            ("rag:budget_spent_eur:month", "{{scope}} spent"),
            ('max by (scope) (rag_budget_limit_eur{window="month"})', "{{scope}} limit"),
        ),
    )
    yield _one("Hour, by scope", "currencyEUR", "rag:budget_spent_eur:hour", "{{scope}}")
    yield _one("Held by requests under way", "currencyEUR", "sum by (window) (rag_budget_held_eur)", "{{window}}")
    yield _one(
        "Spent in an hour, by model",
        "currencyEUR",
        "sum by (plane, model) (increase(rag_cost_eur_total[1h]))",
        "{{plane}} {{model}}",
    )
    if site.env.llm.model != EXTRACTIVE:
        over = window(site)
        yield _one(
            f"Mean cost of a question, {over}",
            "currencyEUR",
            f"rag:cost_per_request_eur:{over}",
            "per question",
            float(goal) if goal else None,
        )
    yield _one("Tokens", "short", "sum by (model, class) (rate(rag_tokens_total[5m]))", "{{model}} {{class}}")
    yield _one(
        "Saved by the cache, an hour", "currencyEUR", "sum(increase(rag_cost_saved_eur_total[1h])) or vector(0)", "saved"
    )
    yield _one("Calls without a price, an hour", "none", "sum by (model) (increase(rag_cost_unpriced_total[1h]))", "{{model}}")
    yield _one("On the way to the ledger", "none", "max(rag_outbox_events)", "events")


def _batch() -> Iterator[Panel]:
    yield _one("Waiting", "none", "max by (queue, bu) (rag_queue_depth)", "{{queue}} {{bu}}")
    yield _one("Age of what has waited longest", "s", "max by (queue, bu) (rag_queue_oldest_seconds)", "{{queue}} {{bu}}")
    yield _one("Queues that rest", "none", "max by (queue, bu) (rag_queue_paused)", "{{queue}} {{bu}}")
    yield _one("Documents sent in", "reqps", 'sum by (outcome) (rate(rag_requests_total{kind="documents"}[5m]))', "{{outcome}}")
    yield _one(
        "Spent by batches, this month",
        "currencyEUR",
        'max(rag_budget_spent_eur{scope="plane:batch",window="month"}) or vector(0)',
        "batch",
    )


def _release() -> Iterator[Panel]:
    yield _one("Contract in force", "none", "count by (env, digest) (rag_contract_info)", "{{env}} {{digest}}")
    yield _one("Processes", "none", "count(rag_process_info)", "processes")
    yield _one("Starts, an hour", "none", "sum(changes(process_start_time_seconds[1h]))", "starts")
    yield _one("Share that fails, 5 min", "percentunit", "rag:requests_failed:ratio5m", "failed")
    yield _one(
        "Answers by process",
        "reqps",
        'sum by (instance, outcome) (rate(rag_requests_total{kind="ask"}[5m]))',
        "{{instance}} {{outcome}}",
    )
    yield _one("Votes, an hour", "none", "sum by (vote) (increase(rag_feedback_total[1h])) or vector(0)", "{{vote}}")
    yield _one("Models left alone", "none", "max by (model) (rag_breaker_open) or vector(0)", "{{model}}")


def _dashboard(scene: Scene, site: Site, name: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    return {
        "uid": f"{site.name}-{name}"[:40],
        "title": f"{site.name}: {name}",
        "description": " ".join(scene.origin),
        "tags": ["pilotis", site.env.name],
        "timezone": site.env.timezone,
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": [_panel(number_, panel) for number_, panel in enumerate(panels)],
    }


def _panel(at: int, panel: Panel) -> dict[str, Any]:
    per_row = COLUMNS // WIDTH
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    shown = {"thresholdsStyle": {"mode": "line" if panel.limit is not None else "off"}}
    return {
        "id": at + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": at % per_row * WIDTH, "y": at // per_row * HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, "custom": shown},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(panel.questions)
        ],
    }
