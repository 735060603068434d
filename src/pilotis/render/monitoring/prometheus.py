"""Whom Prometheus asks, and whom it tells: for one machine, where the services have names. Hosts and clusters find them in their own way."""

from __future__ import annotations

from typing import Any

from pilotis.derive.site import Site
from pilotis.derive.workload import API_PORT
from pilotis.render.monitoring.service import HOST_JOB

SCRAPE = "15s"
ALERTMANAGER = "alertmanager:9093"
PROXY = "proxy:8404"


def prometheus(
    site: Site, *, api: dict[str, Any] | None = None, alertmanager: str = ALERTMANAGER, every: str = SCRAPE
) -> dict[str, Any]:
    """`api` is how its processes are found; by default Docker's name server tells the address of each.

    Each process is asked by itself: counters of several processes under one address are no counters.
    """
    found = api or {"dns_sd_configs": [{"names": ["api"], "type": "A", "port": API_PORT, "refresh_interval": "15s"}]}
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every, "external_labels": {"env": site.env.name}},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": HOST_JOB, **found},
            {"job_name": "haproxy", "static_configs": [{"targets": [PROXY]}]},
            {"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"]}]},
            {"job_name": "alertmanager", "static_configs": [{"targets": [alertmanager]}]},
        ],
    }
