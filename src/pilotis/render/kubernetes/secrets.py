"""Where the secrets come from. Their values are in no file: External Secrets fetches them, or the team puts them there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pilotis.derive import workload
from pilotis.render.kubernetes.common import Manifest, Place

REFRESH = "1h"
STORES = {"aws": "aws", "vault": "vault"}
"""The ClusterSecretStore of each provider: the cluster's to provide."""
JUDGE = ("PILOTIS_JUDGE_KEY",)
"""An API key with the right admin, of every business unit: who asks for verdicts. It can be made only once the service is there."""


def secrets(at: Place) -> Iterator[Manifest]:
    """Two Secrets: what processes start with, and the key by which a release asks for its verdict. None where the team makes them."""
    if at.site.secrets.provider in STORES:
        yield _external(at, "secrets", workload.secrets(at.site.env))
        yield _external(at, "judge", JUDGE)


def _external(at: Place, what: str, names: Sequence[str]) -> Manifest:
    kept = at.site.secrets
    field = {"property": "value"} if kept.provider == "vault" else {}
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": at.meta(what),
        "spec": {
            "refreshInterval": REFRESH,
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": STORES[kept.provider]},
            "target": {"name": at.named(what), "creationPolicy": "Owner", "deletionPolicy": "Retain"},
            "data": [{"secretKey": name, "remoteRef": {"key": f"{kept.path}/{name}", **field}} for name in names],
        },
    }
