"""What all manifests of an env share: where it stands, what things are called there, and who lives next door."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotis.contract import export
from pilotis.contract.model import Contract
from pilotis.derive.origin import Origin
from pilotis.derive.site import Site
from pilotis.derive.workload import Role, named, roles
from pilotis.render.files import Scene

Manifest = dict[str, Any]

UNSET_DIGEST = "sha256:" + 64 * "0"
"""Of the image, until a release names one: there is no such image, so that nothing unknown is ever started by mistake."""
UNSET_RELEASE = "none"
RELEASE = "pilotis/release"
"""The annotation of the Rollout that names the release: what Pilotis is asked about while it goes out."""
CHECKSUM = "pilotis/contract-sha256"
MIGRATE = "migrate"
"""The component that is no role: it runs before a release and ends."""

GATEWAY_CLASS = "public"
GATEWAY_SPACE = "gateway-system"
ROLLOUTS_SPACE = "argo-rollouts"
MONITORING_SPACE = "monitoring"
"""The namespaces next door, and the class of gateways: the cluster's to provide. An overlay changes what is called otherwise."""
PROMETHEUS_URL = f"http://prometheus-operated.{MONITORING_SPACE}.svc:9090"
"""The address that Prometheus Operator gives to the Prometheus of that namespace."""
COLLECTOR_PORT = 4318
COLLECTOR_URL = f"http://otel-collector.{MONITORING_SPACE}.svc:{COLLECTOR_PORT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One env on its cluster: what every manifest is made from."""

    site: Site
    contract: Contract
    contract_json: str
    """The contract as the service loads it."""
    roles: tuple[Role, ...]
    sources: tuple[Origin, ...]

    @property
    def space(self) -> str:
        return self.site.name

    @property
    def checksum(self) -> str:
        """The SHA-256 (hex) of the contract's text."""
        return hashlib.sha256(self.contract_json.encode()).hexdigest()

    @property
    def contract_map(self) -> str:
        """The ConfigMap of the contract. It bears its checksum, so that pods of the stable release keep the contract they began with."""
        return self.named(f"contract-{self.checksum[:10]}")

    @property
    def secret(self) -> str:
        return self.named("secrets")

    @property
    def is_canary(self) -> bool:
        return self.contract.deploy.strategy == "canary"

    @property
    def is_traced(self) -> bool:
        return self.site.env.trace_sampling > 0

    @property
    def services(self) -> tuple[str, str]:
        """Of the API: the Service that has the traffic, and the one of the release that is tried."""
        kinds = ("stable", "canary") if self.is_canary else ("active", "preview")
        return self.named(f"api-{kinds[0]}"), self.named(f"api-{kinds[1]}")

    def named(self, what: str) -> str:
        return named(self.site, what)

    def role(self, name: str) -> Role:
        return next(role for role in self.roles if role.name == name)

    def selector(self, component: str) -> dict[str, str]:
        """The labels by which the pods of a component are found; they never change."""
        return {"app.kubernetes.io/instance": self.site.name, "app.kubernetes.io/component": component}

    def labels(self, component: str) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": self.contract.name,
            **self.selector(component),
            "app.kubernetes.io/managed-by": "pilotis",
        }

    def meta(self, what: str, *, component: str | None = None, annotations: Mapping[str, str] | None = None) -> Manifest:
        """The metadata of something in the env's namespace; `component` is what it belongs to, where that is not `what` itself."""
        told = {"annotations": dict(annotations)} if annotations else {}
        return {"name": self.named(what), "namespace": self.space, "labels": self.labels(component or what), **told}


def place(scene: Scene, site: Site) -> Place:
    contract = scene.plan.contract
    return Place(
        site=site,
        contract=contract,
        contract_json=export.to_json(contract),
        roles=roles(site),
        sources=scene.plan.sources_of(site.env.name),
    )


def skips(reasons: Mapping[str, str]) -> dict[str, str]:
    """Annotations by which checkov leaves a check out, each with its reason."""
    return {f"checkov.io/skip{n}": f"{check}={reason}" for n, (check, reason) in enumerate(reasons.items(), 1)}
