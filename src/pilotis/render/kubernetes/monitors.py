"""What Prometheus Operator is told: whom to ask for measurements, and which rules to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilotis.render.kubernetes.common import Manifest, Place

SCRAPE_S = 15


def monitor(at: Place) -> Iterator[Manifest]:
    """By a Service of its own: between releases those of stable and canary have the same pods, and all would be counted twice."""
    yield {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": at.meta("api"),
        "spec": {
            "selector": {"matchLabels": {**at.selector("api"), "service": at.named("api-metrics")}},
            "namespaceSelector": {"matchNames": [at.space]},
            "podTargetLabels": ["track"],
            "endpoints": [{"port": "http", "path": "/metrics", "interval": f"{SCRAPE_S}s", "scrapeTimeout": "10s"}],
        },
    }


def rules(at: Place, groups: Sequence[Mapping[str, Any]]) -> Iterator[Manifest]:
    """The groups as they are; none where there are none."""
    if groups:
        yield {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": at.meta("rules"),
            "spec": {"groups": [dict(group) for group in groups]},
        }
