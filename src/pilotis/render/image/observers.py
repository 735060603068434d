"""Prometheus, Alertmanager, Grafana and the collector beside the service, on the configuration that is rendered for the env.

Wherever they run they are these: in compose, and as units of the host that watches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pilotis.render.files import Scene
from pilotis.render.image import pins

OTLP_PORT, PROXY_PORT = 4318, 8404
COLLECTOR_URL = f"http://otel-collector:{OTLP_PORT}"
ALERT_SECRETS = "/etc/alertmanager/secrets"
"""Where receivers find what they may not have in clear."""
GRAFANA_PASSWORD = "/run/secrets/grafana"  # noqa: S105 - a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """One of them. `port` is None where its image has no program that could ask whether it is well."""

    name: str
    pin: pins.Pin
    cpus: Decimal
    memory_mib: int
    port: int | None = None
    ready: str = "/-/ready"
    listens: str | None = None
    """The option that names its address."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    rendered: Mapping[str, str] = field(default_factory=dict)
    """From files and folders of monitoring/ENV to where it reads them."""
    keeps: str | None = None
    """Where it writes, which stays."""


def observers(scene: Scene) -> tuple[Observer, ...]:
    return (_prometheus(scene.plan.contract.alerts.retention_days), _ALERTMANAGER, _GRAFANA, _COLLECTOR)


def _prometheus(retention_days: int) -> Observer:
    return Observer(
        name="prometheus",
        pin=pins.PROMETHEUS,
        cpus=Decimal(1),
        memory_mib=1024,
        port=9090,
        listens="--web.listen-address",
        arguments=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={retention_days}d",
        ),
        rendered={"prometheus.yml": "/etc/prometheus/prometheus.yml", "rules": "/etc/prometheus/rules"},
        keeps="/prometheus",
    )


_ALERTMANAGER = Observer(
    name="alertmanager",
    pin=pins.ALERTMANAGER,
    cpus=Decimal("0.5"),
    memory_mib=256,
    port=9093,
    listens="--web.listen-address",
    # One of it: there is nobody to gossip with.
    arguments=(
        "--config.file=/etc/alertmanager/alertmanager.yml",
        "--storage.path=/alertmanager",
        "--cluster.listen-address=",
    ),
    rendered={"alertmanager.yml": "/etc/alertmanager/alertmanager.yml"},
    keeps="/alertmanager",
)
_GRAFANA = Observer(
    name="grafana",
    pin=pins.GRAFANA,
    cpus=Decimal(1),
    memory_mib=512,
    port=3000,
    ready="/api/health",
    # It tells nobody that it is there.
    environment={
        "GF_SECURITY_ADMIN_PASSWORD__FILE": GRAFANA_PASSWORD,
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_USERS_ALLOW_SIGN_UP": "false",
    },
    rendered={
        "grafana/provisioning": "/etc/grafana/provisioning",
        "grafana/dashboards": "/etc/grafana/dashboards",
    },
    keeps="/var/lib/grafana",
)
_COLLECTOR = Observer(
    name="otel-collector",
    pin=pins.COLLECTOR,
    cpus=Decimal("0.5"),
    memory_mib=512,
    arguments=("--config=/etc/otelcol/config.yaml",),
    rendered={"otel-collector.yaml": "/etc/otelcol/config.yaml"},
)
