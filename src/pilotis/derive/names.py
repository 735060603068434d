"""The names that two parts share: metrics with their help and labels, queues. A name that is not here does not exist."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

QUEUES = ("ingest", "embed")
"""The Celery queues of the batch plane."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `labels` is complete; `buckets` are the upper bounds of a histogram, in seconds."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_STAGE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "rag_requests_total": Metric("counter", "Requests, by kind and outcome.", ("kind", "outcome")),
        "rag_request_seconds": Metric("histogram", "Time from a request to the end of its answer.", ("kind",), _REQUEST_S),
        "rag_first_byte_seconds": Metric("histogram", "Time from a question to the first piece of its answer.", (), _REQUEST_S),
        "rag_stage_seconds": Metric("histogram", "Time of each step of a request.", ("stage",), _STAGE_S),
        "rag_cost_eur_total": Metric("counter", "Euros spent, as the ledger booked them.", ("plane", "bu", "model")),
        "rag_cost_unpriced_total": Metric("counter", "Model calls whose price is unknown.", ("model",)),
        "rag_cost_saved_eur_total": Metric("counter", "What answers served from the cache had cost.", ("bu",)),
        "rag_cost_estimated_total": Metric("counter", "Settled requests some of whose tokens were counted here.", ("model",)),
        "rag_holds_lost_total": Metric("counter", "Holds that expired because their process died, and count as spent."),
        "rag_budget_spent_eur": Metric("gauge", "Spent in the window of now, by the counters.", ("scope", "window")),
        "rag_budget_held_eur": Metric("gauge", "Held by requests under way.", ("scope", "window")),
        "rag_budget_limit_eur": Metric("gauge", "The contract's limit.", ("scope", "window")),
        "rag_limited_total": Metric("counter", "Requests turned away, by the code of the refusal.", ("code",)),
        "rag_guardrail_level": Metric("gauge", "Step of the guardrail's ladder, 0 is the full service.", ("scope",)),
        "rag_cache_total": Metric("counter", "Look-ups of the caches, by result: hit, miss, wait.", ("cache", "result")),
        "rag_outbox_events": Metric("gauge", "Settled costs on their way to the ledger."),
        "rag_in_flight": Metric("gauge", "Requests being served by this process."),
        "rag_breaker_open": Metric("gauge", "1 while a failing endpoint is left alone.", ("model",)),
        "rag_process_info": Metric("gauge", "Always 1; which process this is.", ("instance",)),
        "rag_tokens_total": Metric("counter", "Tokens consumed, by class: input, cached, output.", ("model", "class")),
        "rag_feedback_total": Metric("counter", "Votes on answers: up, down.", ("vote",)),
        "rag_queue_depth": Metric(
            "gauge", "What waits: documents for ingest, passages for embed; and documents that failed.", ("queue", "bu")
        ),
        "rag_queue_oldest_seconds": Metric("gauge", "Time since what has waited longest was received.", ("queue", "bu")),
        "rag_queue_paused": Metric("gauge", "1 while the queue rests for this business unit.", ("queue", "bu")),
        "rag_secret_age_seconds": Metric("gauge", "Time since a secret was replaced, where its keeper knows.", ("name",)),
        "rag_contract_info": Metric("gauge", "Always 1; its labels say which contract is in force.", ("name", "env", "digest")),
    }
)
