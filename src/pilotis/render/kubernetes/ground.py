"""What stands before any pod does: the namespace, its bounds, the contract, accounts, priorities, and room for files."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import PurePosixPath

from pilotis.derive.workload import CONTRACT_PATH
from pilotis.render.kubernetes.common import MIGRATE, Manifest, Place

ONLINE, BATCH = "online", "batch"
PRIORITIES = {ONLINE: 100_000, BATCH: 1_000}
"""Where a node has room for one of them, it is the one that answers questions."""
BLOBS_GIB = 100
"""Room for original files where they are kept in a folder. A class that grows volumes makes it more."""
MIGRATION_VCPU, MIGRATION_MIB = Decimal("0.1"), 512
"""What the migration asks for: the database does the work."""


def namespace(at: Place) -> Iterator[Manifest]:
    """With the strictest of Kubernetes' own pod standards in force, and a quota of what the env may take when all has grown."""
    enforced = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels = {**at.labels("namespace"), **enforced}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": at.space, "labels": labels}}
    for priority, value in PRIORITIES.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": at.named(priority), "labels": at.labels(priority)},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority" if priority == ONLINE else "Never",
            "globalDefault": False,
            "description": f"The {priority} plane of {at.site.name}.",
        }
    yield _quota(at)


def accounts(at: Place) -> Iterator[Manifest]:
    """One for each component. None of them may ask the cluster anything; rights in the cloud are given to them by name."""
    for name in (*(role.name for role in at.roles), MIGRATE):
        yield {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": at.meta(name),
            "automountServiceAccountToken": False,
        }


def contract(at: Place) -> Iterator[Manifest]:
    """Immutable, and named by its content: a release with another contract has another map, and a rollback finds the one it had."""
    meta = at.meta("contract")
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**meta, "name": at.contract_map},
        "immutable": True,
        "data": {PurePosixPath(CONTRACT_PATH).name: at.contract_json},
    }


def volumes(at: Place) -> Iterator[Manifest]:
    """Where the contract keeps original files in a folder, all pods share one."""
    if at.site.infra.blobs != "local":
        return
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": at.meta("blobs"),
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{BLOBS_GIB}Gi"}}},
    }


def _quota(at: Place) -> Manifest:
    """All at their most, and each once more while a release replaces them: two APIs stand side by side, a worker above its number."""
    pods = sum(2 * (role.most or role.replicas) for role in at.roles) + 1
    vcpu = sum((2 * (role.most or role.replicas) * role.vcpu for role in at.roles), MIGRATION_VCPU)
    memory_mib = sum(2 * (role.most or role.replicas) * role.memory_mib for role in at.roles) + MIGRATION_MIB
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": at.meta("quota"),
        "spec": {
            "hard": {
                "pods": str(pods),
                "requests.cpu": cpu(vcpu),
                "requests.memory": f"{memory_mib}Mi",
                "limits.memory": f"{memory_mib}Mi",
            },
            "scopeSelector": {
                "matchExpressions": [
                    {
                        "scopeName": "PriorityClass",
                        "operator": "In",
                        "values": [at.named(priority) for priority in PRIORITIES],
                    }
                ]
            },
        },
    }


def cpu(vcpu: Decimal) -> str:
    """A quantity of Kubernetes: whole cores as they are, parts in thousandths."""
    return str(int(vcpu)) if vcpu == int(vcpu) else f"{int(vcpu * 1000)}m"
