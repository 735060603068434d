"""How requests come in: the Gateway, and the route whose weights a release moves."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from pilotis.render.kubernetes.common import GATEWAY_CLASS, Manifest, Place

GATEWAY_PLUGIN = "argoproj-labs/gatewayAPI"
"""Of Argo Rollouts: it writes the weights of the route."""
PATHS = (("PathPrefix", "/v1"), ("PathPrefix", "/mcp"), ("PathPrefix", "/docs"), ("Exact", "/openapi.json"), ("Exact", "/"))
"""What strangers may ask for. Probes and metrics take no key, and stay inside."""
SPARE_S = 10
"""Beyond the longest answer: routers cut off what takes longer, some after 15 s where nothing is said."""


def route(at: Place) -> Iterator[Manifest]:
    """Weights are always written, all of them: one that is left out counts as 1."""
    yield _gateway(at)
    yield {
        **_route(at, "api", "https"),
        "spec": {
            "parentRefs": [{"name": at.named("gateway"), "sectionName": "https"}],
            "hostnames": [at.site.host],
            "rules": [
                {
                    "matches": [{"path": {"type": kind, "value": path}} for kind, path in PATHS],
                    "timeouts": {"request": _timeout(at), "backendRequest": _timeout(at)},
                    "backendRefs": _backends(at),
                }
            ],
        },
    }
    yield {
        **_route(at, "to-https", "http"),
        "spec": {
            "parentRefs": [{"name": at.named("gateway"), "sectionName": "http"}],
            "hostnames": [at.site.host],
            "rules": [
                {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]},
            ],
        },
    }


def _gateway(at: Place) -> Manifest:
    own = {"allowedRoutes": {"namespaces": {"from": "Same"}}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": at.meta("gateway"),
        "spec": {
            "gatewayClassName": GATEWAY_CLASS,
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP", "hostname": at.site.host, **own},
                {
                    "name": "https",
                    "port": 443,
                    "protocol": "HTTPS",
                    "hostname": at.site.host,
                    "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": at.named("tls")}]},
                    **own,
                },
            ],
        },
    }


def _route(at: Place, what: str, component: str) -> Manifest:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": at.meta(what, component=f"route-{component}"),
    }


def _backends(at: Place) -> list[Manifest]:
    weights = (100, 0) if at.is_canary else (100,)
    return [
        {"kind": "Service", "name": name, "port": 80, "weight": weight}
        for name, weight in zip(at.services, weights, strict=False)
    ]


def _timeout(at: Place) -> str:
    return f"{ceil(at.site.env.total_s) + SPARE_S}s"
