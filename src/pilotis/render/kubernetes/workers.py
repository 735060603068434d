"""The batch and control planes: a Deployment for each, and the migration that goes before them all."""

from __future__ import annotations

from collections.abc import Iterator

from pilotis.derive.workload import Role
from pilotis.render.kubernetes.common import MIGRATE, Manifest, Place
from pilotis.render.kubernetes.ground import MIGRATION_MIB, MIGRATION_VCPU, cpu
from pilotis.render.kubernetes.pods import brief, pod, skipped

MIGRATION_TRIES = 3
MIGRATION_S = 1800
"""After which a migration is given up: it waits for a lock that somebody holds."""
KEPT_S = 86_400
"""For a day one can read what a migration said."""


def workers(at: Place) -> Iterator[Manifest]:
    """Those of the queues, whose number follows from what waits (see `scaling`): it is not stated here, or each release would reset it."""
    for role in at.roles:
        if role.queue:
            yield _deployment(at, role, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})


def alone(at: Place) -> Iterator[Manifest]:
    """Those of which there is one. The old one ends before the new one begins."""
    for role in at.roles:
        if role.port is None and not role.queue:
            yield _deployment(at, role, {"type": "Recreate"})


def migration(at: Place) -> Iterator[Manifest]:
    """Brings the database's schema to the image's version, before anything of the image runs; twice at once does no harm."""
    yield {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": at.meta(MIGRATE, annotations=skipped(at, is_probed=True)),
        "spec": {
            "backoffLimit": MIGRATION_TRIES,
            "activeDeadlineSeconds": MIGRATION_S,
            "ttlSecondsAfterFinished": KEPT_S,
            "template": brief(
                at,
                MIGRATE,
                ("python", "-m", "pilotis", "migrate"),
                vcpu=cpu(MIGRATION_VCPU),
                memory_mib=MIGRATION_MIB,
            ),
        },
    }


def _deployment(at: Place, role: Role, strategy: Manifest) -> Manifest:
    number = {} if role.most else {"replicas": role.replicas}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": at.meta(role.name, annotations=skipped(at, is_probed=False)),
        "spec": {
            **number,
            "revisionHistoryLimit": 5,
            "strategy": strategy,
            "selector": {"matchLabels": at.selector(role.name)},
            "template": pod(at, role),
        },
    }
