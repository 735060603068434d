"""The questions to Prometheus that the runbook's pages ask, each stated once for both languages."""

from __future__ import annotations

from pilotis.derive.site import Site

SHARE_FLOOR = 20
"""Requests below which a share says nothing about the service, only about these requests."""


def queries(site: Site) -> dict[str, str]:
    """PromQL by name. Every metric is one of `derive.names`, or one that every process exports about itself."""
    env = site.env
    asked = 'rag_requests_total{kind="ask"}'
    return {
        "traffic": "sum by (kind, outcome) (rate(rag_requests_total[5m]))",
        "errors": (
            'sum(rate(rag_requests_total{outcome="failed"}[5m])) / sum(rate(rag_requests_total[5m]))'
            f" and sum(increase(rag_requests_total[5m])) >= {SHARE_FLOOR}"
        ),
        "refusals": "sum by (code) (increase(rag_limited_total[15m])) > 0",
        "p95": 'histogram_quantile(0.95, sum by (le) (rate(rag_request_seconds_bucket{kind="ask"}[5m])))',
        "first_byte": "histogram_quantile(0.95, sum by (le) (rate(rag_first_byte_seconds_bucket[5m])))",
        "stages": "histogram_quantile(0.95, sum by (le, stage) (rate(rag_stage_seconds_bucket[5m])))",
        "breaker": "max by (model) (rag_breaker_open) == 1",
        "in_flight": f"max by (instance) (rag_in_flight) / {env.in_flight}",
        "cache_hits": (
            'sum(rate(rag_cache_total{cache="answer", result="hit"}[15m])) / sum(rate(rag_cache_total{cache="answer"}[15m]))'
        ),
        "cpu": "rate(process_cpu_seconds_total[5m])",
        "memory": "process_resident_memory_bytes",
        "starts": "changes(process_start_time_seconds[1h]) > 0",
        "reachable": "up == 0",
        "cost_per_request": (
            f'sum(increase(rag_cost_eur_total{{plane="online"}}[15m])) / sum(increase({asked}[15m]))'
            f" and sum(increase({asked}[15m])) >= {SHARE_FLOOR}"
        ),
        "spenders": "topk(10, sum by (plane, bu, model) (increase(rag_cost_eur_total[1h])))",
        "spent_a_week_ago": "sum by (plane) (increase(rag_cost_eur_total[1h] offset 1w))",
        "tokens": f"sum by (model, class) (increase(rag_tokens_total[1h])) / scalar(sum(increase({asked}[1h])))",
        "budgets": "max by (scope, window) (rag_budget_spent_eur) / max by (scope, window) (rag_budget_limit_eur)",
        "held": "max by (scope, window) (rag_budget_held_eur)",
        "guardrail": "max by (scope) (rag_guardrail_level) > 0",
        "unpriced": "sum by (model) (increase(rag_cost_unpriced_total[1h])) > 0",
        "estimated": "sum by (model) (increase(rag_cost_estimated_total[1h])) > 0",
        "outbox": "max(rag_outbox_events)",
        "lost": "increase(rag_holds_lost_total[1h]) > 0",
        "queue_age": "max by (queue, bu) (rag_queue_oldest_seconds)",
        "queue_depth": "max by (queue, bu) (rag_queue_depth)",
        "paused": "max by (queue, bu) (rag_queue_paused) == 1",
        "contracts": "count by (env, digest) (rag_contract_info)",
    }
