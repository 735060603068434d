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
        "rag_tokens_total": Metric("counter", "Tokens consumed, by class: input, cached, output.", ("model", "class")),
        "rag_queue_depth": Metric("gauge", "What waits: documents for ingest, passages for embed.", ("queue",)),
        "rag_queue_oldest_seconds": Metric("gauge", "Age of what has waited longest.", ("queue",)),
        "rag_contract_info": Metric("gauge", "Always 1; its labels say which contract is in force.", ("name", "env", "digest")),
    }
)
