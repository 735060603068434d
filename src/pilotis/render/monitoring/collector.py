"""The collector of traces: which of those that arrive are kept is decided when a trace has ended."""

from __future__ import annotations

from typing import Any

from pilotis.derive.site import Site
from pilotis.render.files import Scene

DECIDE_S = 10
"""After a trace's last span has come, in spare of the longest answer."""
TRACES = 20_000
"""Held in memory while they are undecided."""


def collector(scene: Scene, site: Site) -> dict[str, Any]:
    """Failed requests and slow ones are always kept; of the others the share `trace_sampling` of the env."""
    p95_ms = scene.plan.contract.slo.p95_ms or int(site.env.first_byte_s * 1000)
    policies: list[dict[str, Any]] = [
        {"name": "failed", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
        {"name": "slow", "type": "latency", "latency": {"threshold_ms": p95_ms}},
        {
            "name": "share",
            "type": "probabilistic",
            "probabilistic": {"sampling_percentage": round(site.env.trace_sampling * 100, 6)},
        },
    ]
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "0.0.0.0:4318"}}}},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_percentage": 75, "spike_limit_percentage": 20},
            "tail_sampling": {
                "decision_wait": f"{int(site.env.total_s) + DECIDE_S}s",
                "num_traces": TRACES,
                "policies": policies,
            },
            "batch": {},
        },
        "exporters": {"debug": {"verbosity": "basic"}},
        "service": {
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "tail_sampling", "batch"],
                    "exporters": ["debug"],
                }
            }
        },
    }
