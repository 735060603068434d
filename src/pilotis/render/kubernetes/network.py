"""Who may talk to whom: nobody, and then each path that is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.plan import Embedding, Env, Llm
from pilotis.derive.workload import API_PORT
from pilotis.render.kubernetes.common import (
    COLLECTOR_PORT,
    GATEWAY_SPACE,
    MONITORING_SPACE,
    ROLLOUTS_SPACE,
    Manifest,
    Place,
)

HTTPS = 443
POSTGRES, REDIS, DNS = 5432, 6379, 53
EVERYWHERE = "0.0.0.0/0"
LINK_LOCAL = "169.254.0.0/16"
"""The node's own: who may ask there gets the rights of the node."""
NODE_DNS = "169.254.20.10/32"
POD_IDENTITY = "169.254.170.23/32"
"""Where pods of EKS get the rights that were given to their service account."""
ASKING = ("api", "worker-eval")
EMBEDDING = ("api", "worker-eval", "worker-embed")
STORING = ("api", "worker-ingest", "upkeep", "schedule")
"""Who reads or writes original files."""
BRINGING = ("schedule",)
"""Who synchronises sources and takes snapshots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A server that somebody must reach: in the namespace `space` as pods named `pods`, or by address and port."""

    port: int
    pods: str | None = None
    space: str | None = None
    cidr: str = EVERYWHERE


def network(at: Place) -> Iterator[Manifest]:
    yield {**_policy(at, "default-deny"), "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
    yield _egress(at, "dns", {}, [_dns()])
    yield _egress(at, "servers", _ours(at), [_to_cidr(at.site.cidr, POSTGRES, REDIS)])
    yield _api(at)
    if at.is_traced:
        yield _egress(at, "traces", at.selector("api"), [_to_space(MONITORING_SPACE, COLLECTOR_PORT)])
    for role in at.roles:
        if found := sorted(reached(at, role.name), key=repr):
            yield _egress(at, f"{role.name}-out", at.selector(role.name), [_to(one) for one in found])
    yield from _neighbours(at)


def reached(at: Place, component: str) -> set[Reach]:
    """The servers outside that a component has to reach: models, buckets, web sites."""
    env, found = at.site.env, set[Reach]()
    models: list[Llm | Embedding | None] = []
    if component in ASKING:
        models += [env.llm, env.compact, env.fallback, env.reranker if env.rerank else None]
    if component in EMBEDDING:
        models.append(env.embedder)
    for model in models:
        if model is not None and model.provider != "local" and model.model != EXTRACTIVE:
            found.add(_model(at, model))
    if _uses_buckets(at, component, env):
        found |= {Reach(port=HTTPS), Reach(port=80, cidr=POD_IDENTITY)}
    if component in BRINGING and any(source.kind == "web" for source in at.sources):
        found |= {Reach(port=HTTPS), Reach(port=80)}
    return found


def _uses_buckets(at: Place, component: str, env: Env) -> bool:
    if component in STORING and at.site.infra.blobs == "s3":
        return True
    snapshots = env.snapshot is not None and env.snapshot.place.startswith("s3://")
    return component in BRINGING and (snapshots or any(source.kind == "s3" for source in at.sources))


def _model(at: Place, model: Llm | Embedding) -> Reach:
    """A name without a dot is a Service beside ours; NAME.SPACE.svc one of another namespace; all else is outside."""
    if model.base_url is None:
        return Reach(port=HTTPS)
    url = urlsplit(model.base_url)
    host, port = url.hostname or "", url.port or (HTTPS if url.scheme == "https" else 80)
    parts = host.split(".")
    if len(parts) == 1:
        return Reach(port=port, pods=host, space=at.space)
    if len(parts) > 2 and parts[2] == "svc":
        return Reach(port=port, pods=parts[0], space=parts[1])
    try:
        address = ip_address(host)
    except ValueError:
        return Reach(port=port)
    return Reach(port=port, cidr=f"{address}/{address.max_prefixlen}")


def _api(at: Place) -> Manifest:
    """From the gateway, from Prometheus, and from Argo Rollouts, which asks for verdicts. Kubelets probe past any policy."""
    spaces = (GATEWAY_SPACE, MONITORING_SPACE, ROLLOUTS_SPACE)
    return {
        **_policy(at, "api"),
        "spec": {
            "podSelector": {"matchLabels": at.selector("api")},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [_space(name) for name in spaces], "ports": [{"protocol": "TCP", "port": API_PORT}]},
            ],
        },
    }


def _neighbours(at: Place) -> Iterator[Manifest]:
    """Model servers in our own namespace are denied by default like all else: those that ask them may come in."""
    asked: dict[str, list[str]] = {}
    for role in at.roles:
        for one in reached(at, role.name):
            if one.pods and one.space == at.space:
                asked.setdefault(one.pods, []).append(role.name)
    for pods, askers in sorted(asked.items()):
        yield {
            **_policy(at, f"{pods}-in"),
            "spec": {
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": pods}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": at.selector(name)}} for name in askers]}],
            },
        }


def _policy(at: Place, what: str) -> Manifest:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": at.meta(what, component="network")}


def _egress(at: Place, what: str, selector: dict[str, str], to: list[Manifest]) -> Manifest:
    chosen = {"matchLabels": selector} if selector else {}
    return {**_policy(at, what), "spec": {"podSelector": chosen, "policyTypes": ["Egress"], "egress": to}}


def _ours(at: Place) -> dict[str, str]:
    return {"app.kubernetes.io/instance": at.site.name}


def _to(reach: Reach) -> Manifest:
    """Pods are reached on whatever port: a policy sees the pod's own, and an address has the Service's."""
    if reach.pods and reach.space:
        return {"to": [{**_space(reach.space), "podSelector": {"matchLabels": {"app.kubernetes.io/name": reach.pods}}}]}
    return _to_cidr(reach.cidr, reach.port)


def _to_cidr(cidr: str, *ports: int) -> Manifest:
    block = {"cidr": cidr, **({"except": [LINK_LOCAL]} if cidr == EVERYWHERE else {})}
    return {"to": [{"ipBlock": block}], "ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _to_space(name: str, port: int) -> Manifest:
    return {"to": [_space(name)], "ports": [{"protocol": "TCP", "port": port}]}


def _space(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _dns() -> Manifest:
    """The cluster's, or the cache of the node."""
    return {
        "to": [_space("kube-system"), {"ipBlock": {"cidr": NODE_DNS}}],
        "ports": [{"protocol": protocol, "port": DNS} for protocol in ("UDP", "TCP")],
    }
