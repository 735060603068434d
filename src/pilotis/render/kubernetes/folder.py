"""The folder of an env: its manifests by subject, what kustomize makes of them, and how they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files as package_files
from types import MappingProxyType
from typing import Any

from pilotis.derive import workload
from pilotis.derive.site import Site
from pilotis.render.files import File, Scene, to_yaml
from pilotis.render.kubernetes.api import api, verdict
from pilotis.render.kubernetes.common import (
    GATEWAY_CLASS,
    GATEWAY_SPACE,
    MONITORING_SPACE,
    RELEASE,
    ROLLOUTS_SPACE,
    UNSET_DIGEST,
    Manifest,
    Place,
    place,
)
from pilotis.render.kubernetes.ground import accounts, contract, namespace, volumes
from pilotis.render.kubernetes.monitors import monitor, rules
from pilotis.render.kubernetes.network import network
from pilotis.render.kubernetes.pods import as_files
from pilotis.render.kubernetes.route import GATEWAY_PLUGIN, route
from pilotis.render.kubernetes.scaling import scaling
from pilotis.render.kubernetes.secrets import JUDGE, STORES, secrets
from pilotis.render.kubernetes.workers import alone, migration, workers
from pilotis.render.monitoring.rules import rule_groups

FIRST: Mapping[str, Callable[[Place], Iterator[Manifest]]] = MappingProxyType(
    {
        "namespace": namespace,
        "accounts": accounts,
        "contract": contract,
        "volumes": volumes,
        "secrets": secrets,
        "network": network,
        "migration": migration,
    }
)
"""The files that the migration needs and is: applied, and waited for, before the others."""
THEN: Mapping[str, Callable[[Place], Iterator[Manifest]]] = MappingProxyType(
    {
        "api": api,
        "verdict": verdict,
        "route": route,
        "workers": workers,
        "alone": alone,
        "scaling": scaling,
        "monitor": monitor,
    }
)
STEP = "pilotis/step"
"""The label by which what comes first is told from the rest."""


def files(scene: Scene) -> Iterator[File]:
    for name, site in scene.sites.items():
        yield from _env(scene, name, site)


def manifests(at: Place, groups: Sequence[Mapping[str, Any]] = ()) -> dict[str, list[Manifest]]:
    """All manifests of an env by the name of their file, without those that would be empty."""
    first = {name: [_stepped(made) for made in make(at)] for name, make in FIRST.items()}
    then = {name: list(make(at)) for name, make in THEN.items()}
    return {name: made for name, made in {**first, **then, "rules": list(rules(at, groups))}.items() if made}


def _env(scene: Scene, env: str, site: Site) -> Iterator[File]:
    at = place(scene, site)
    folder = f"kubernetes/{env}"
    made = manifests(at, rule_groups(scene, site) if "budget_alerts" in scene.plan.contract.deliverables else ())
    for name, documents in made.items():
        yield File(path=f"{folder}/{name}.yaml", content=scene.banner() + to_yaml(documents), env=env)
    yield File(path=f"{folder}/kustomization.yaml", content=scene.banner() + to_yaml(_kustomization(at, made)), env=env)
    yield File(path=f"{folder}/README.md", content=_readme(scene, at), env=env)


def _stepped(made: Manifest) -> Manifest:
    made["metadata"]["labels"] = {**made["metadata"]["labels"], STEP: "first"}
    return made


def _kustomization(at: Place, made: Mapping[str, object]) -> Manifest:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{name}.yaml" for name in made],
        "images": [{"name": at.site.infra.image, "digest": UNSET_DIGEST}],
    }


def _readme(scene: Scene, at: Place) -> str:
    import jinja2

    text = (package_files(__package__ or "") / "readme.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 (Markdown)
    snapshot = at.site.env.snapshot
    return (
        environment.from_string(text).render(
            origin=scene.origin,
            at=at,
            site=at.site,
            secrets=workload.secrets(at.site.env),
            judge=JUDGE[0],
            store=STORES.get(at.site.secrets.provider),
            as_files=as_files(at),
            gateway_class=GATEWAY_CLASS,
            gateway_space=GATEWAY_SPACE,
            rollouts_space=ROLLOUTS_SPACE,
            monitoring_space=MONITORING_SPACE,
            plugin=GATEWAY_PLUGIN,
            release=RELEASE,
            step=STEP,
            overlay=f"release/{at.site.env.name}",
            unset=UNSET_DIGEST,
            snapshot_folder=snapshot.place if snapshot and not snapshot.place.startswith("s3://") else None,
            folder_sources=[source.name for source in at.sources if source.kind == "folder"],
        )
        + "\n"
    )
