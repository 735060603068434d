"""The Meter port over prometheus-client: the metrics of `derive.names`, per process, every foreseeable series born at 0."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pilotis.derive.names import METRICS, QUEUES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilotis.derive.names import Metric
    from pilotis.derive.plan import Env, Plan

KINDS = ("ask", "search", "documents")
OUTCOMES = ("answered", "not_found", "ok", "refused", "failed", "left")
STAGES = ("admit", "embed", "search", "rerank", "extract", "generate", "settle")

LIMITS = ("rate_limited", "budget_exceeded", "budget_held", "guardrail", "overloaded", "draining")

Family = Counter | Gauge | Histogram


class PrometheusMeter:
    """One per process, with a registry of its own. Unknown names and labels raise, missing labels are empty."""

    def __init__(self, plan: Plan, env: Env) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        self._families = {name: _family(name, metric, self._registry) for name, metric in METRICS.items()}
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Family] = {}
        for name, labels in _foreseeable(env):
            self._one(name, labels)
        info = self._one("rag_contract_info", {"name": plan.contract.name, "env": env.name, "digest": plan.digest})
        assert isinstance(info, Gauge)
        info.set(1)

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        series = self._one(name, labels)
        assert isinstance(series, Counter), name
        series.inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        series = self._one(name, labels)
        assert isinstance(series, Histogram), name
        series.observe(value)

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        series = self._one(name, labels)
        assert isinstance(series, Gauge), name
        series.set(value)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def _one(self, name: str, labels: dict[str, str]) -> Family:
        key = (name, tuple(labels.items()))
        series = self._series.get(key)
        if series is None:
            known = METRICS[name].labels
            if unknown := labels.keys() - set(known):
                raise KeyError(f"metric {name} has no label {', '.join(sorted(unknown))}")
            family = self._families[name]
            series = self._series[key] = family.labels(*(labels.get(label, "") for label in known)) if known else family
        return series


def _family(name: str, metric: Metric, registry: CollectorRegistry) -> Family:
    match metric.kind:
        case "counter":
            return Counter(name, metric.help, metric.labels, registry=registry)
        case "gauge":
            return Gauge(name, metric.help, metric.labels, registry=registry)
        case "histogram":
            return Histogram(name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)


def _foreseeable(env: Env) -> Iterable[tuple[str, dict[str, str]]]:
    # A counter that appears with its first event hides that event from rate(): what can be foreseen starts at 0.
    for kind, outcome in product(KINDS, OUTCOMES):
        yield "rag_requests_total", {"kind": kind, "outcome": outcome}
    for kind in KINDS:
        yield "rag_request_seconds", {"kind": kind}
    for code in LIMITS:
        yield "rag_limited_total", {"code": code}
    for cache, result in (*product(("answer", "passages"), ("hit", "miss")), ("answer", "wait")):
        yield "rag_cache_total", {"cache": cache, "result": result}
    for stage in STAGES:
        yield "rag_stage_seconds", {"stage": stage}
    for queue, name in product(QUEUES, ("rag_queue_depth", "rag_queue_oldest_seconds", "rag_queue_paused")):
        yield name, {"queue": queue, "bu": "default"}
    for model, plane in product({env.llm.model, env.embedder.model}, ("online", "batch")):
        yield "rag_cost_eur_total", {"plane": plane, "bu": "default", "model": model}
    for model in {one.model for one in (env.llm, env.embedder, env.reranker) if one}:
        yield "rag_cost_unpriced_total", {"model": model}
        for token_class in ("input", "cached", "output"):
            yield "rag_tokens_total", {"model": model, "class": token_class}
