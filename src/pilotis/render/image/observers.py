"""Prometheus, Alertmanager, Grafana and the collector beside the service, on the configuration that is rendered for the env."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pilotis.derive.site import Site
from pilotis.render.files import Scene
from pilotis.render.image import pins

PROMETHEUS_PORT, ALERTMANAGER_PORT, GRAFANA_PORT, OTLP_PORT, COLLECTOR_PORT, PROXY_PORT = 9090, 9093, 3000, 4318, 13133, 8404
COLLECTOR_URL = f"http://otel-collector:{OTLP_PORT}"
VOLUMES = ("prometheus", "alertmanager", "grafana")
SECRETS = ("grafana",)
ALERT_SECRETS = "/etc/alertmanager/secrets"
"""Where receivers find what they may not have in clear."""


def services(scene: Scene, site: Site) -> dict[str, Any]:
    """They listen on this machine alone: none of them asks who is there, but Grafana."""
    from pilotis.render.image.compose import like

    rendered = f"../../monitoring/{site.env.name}"
    networks = ["watch", "outside"]
    return {
        "prometheus": {
            **like("contained", cpus=Decimal(1), memory_mib=1024),
            "image": str(pins.PROMETHEUS),
            "networks": networks,
            "command": [
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                f"--storage.tsdb.retention.time={scene.plan.contract.alerts.retention_days}d",
            ],
            "volumes": [
                f"{rendered}/prometheus.yml:/etc/prometheus/prometheus.yml:ro",
                f"{rendered}/rules:/etc/prometheus/rules:ro",
                "prometheus:/prometheus",
            ],
            "ports": [f"127.0.0.1:{PROMETHEUS_PORT}:{PROMETHEUS_PORT}"],
            "healthcheck": _asked(PROMETHEUS_PORT, "/-/ready"),
        },
        "alertmanager": {
            **like("contained", cpus=Decimal("0.5"), memory_mib=256),
            "image": str(pins.ALERTMANAGER),
            "networks": networks,
            "command": ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"],
            "volumes": [
                f"{rendered}/alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro",
                f"./secrets/alertmanager:{ALERT_SECRETS}:ro",
                "alertmanager:/alertmanager",
            ],
            "ports": [f"127.0.0.1:{ALERTMANAGER_PORT}:{ALERTMANAGER_PORT}"],
            "healthcheck": _asked(ALERTMANAGER_PORT, "/-/ready"),
        },
        "grafana": {
            **like("contained", cpus=Decimal(1), memory_mib=512),
            "image": str(pins.GRAFANA),
            "networks": networks,
            "environment": {
                "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana",
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                "GF_USERS_ALLOW_SIGN_UP": "false",
            },
            "secrets": list(SECRETS),
            "volumes": [
                f"{rendered}/grafana/provisioning:/etc/grafana/provisioning:ro",
                f"{rendered}/grafana/dashboards:/etc/grafana/dashboards:ro",
                "grafana:/var/lib/grafana",
            ],
            "ports": [f"127.0.0.1:{GRAFANA_PORT}:{GRAFANA_PORT}"],
            "depends_on": {"prometheus": {"condition": "service_started"}},
            "healthcheck": _asked(GRAFANA_PORT, "/api/health"),
        },
        # Its image holds one program and no shell, so nothing in it could ask whether it is well.
        "otel-collector": {
            **like("contained", cpus=Decimal("0.5"), memory_mib=512),
            "image": str(pins.COLLECTOR),
            "networks": networks,
            "command": ["--config=/etc/otelcol/config.yaml"],
            "volumes": [f"{rendered}/otel-collector.yaml:/etc/otelcol/config.yaml:ro"],
            "healthcheck": {"disable": True},
        },
    }


def _asked(port: int, path: str) -> dict[str, Any]:
    test = ["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{port}{path}"]
    return {"test": test, "interval": "10s", "timeout": "5s", "retries": 5, "start_period": "30s"}
