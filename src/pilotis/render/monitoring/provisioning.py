"""What Grafana reads as it starts: where Prometheus is, and the folder of its dashboards."""

from __future__ import annotations

from typing import Any

from pilotis.derive.site import Site
from pilotis.render.monitoring.dashboards import SOURCE

PROMETHEUS_URL = "http://prometheus:9090"
DASHBOARDS = "/etc/grafana/dashboards"


def datasources() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "datasources": [
            {"name": "Prometheus", **SOURCE, "access": "proxy", "url": PROMETHEUS_URL, "isDefault": True, "editable": False}
        ],
    }


def providers(site: Site) -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": site.name,
                "folder": site.name,
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": DASHBOARDS},
            }
        ],
    }
