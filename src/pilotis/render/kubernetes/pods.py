"""The pod of a component: how its one process is started, what it may touch, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from pilotis.derive.workload import CONTRACT_PATH, DATA_PATH, DRAIN_S, LONGEST_TASK_S, USER_ID, Role, secrets, settings
from pilotis.render.kubernetes.common import CHECKSUM, COLLECTOR_URL, UNSET_DIGEST, Manifest, Place, skips
from pilotis.render.kubernetes.ground import BATCH, ONLINE, cpu

LEAVE_S = 10
"""Before an API process is told to end: so long may gateways go on sending to a pod that is taken out."""
CUT_S = 15
"""After its patience has run out: to cut off and settle what is left, to close, and to spare."""
WORKER_MARGIN_S = 30
"""For a worker to put back what it has in hand, and to close."""
SCRATCH_FILES = 16
"""Largest files that a pod has room for at once: uploads under way, a file being read and what is unpacked from it."""
SCRATCH_MIB = 1024
"""Besides: the local model as it is unpacked, and the libraries' own."""
NO_PROBE = "it listens on no port; one that hangs loses its lease and another goes on, and one that dies is started again"
_SKIPPED = {
    "CKV_K8S_11": "without a limit a process uses cores that nobody else wants; requests and priorities share them out",
    "CKV_K8S_15": "the image is named by digest: what is on the node is what was asked for",
}
_UNPROBED = {"CKV_K8S_8": NO_PROBE, "CKV_K8S_9": NO_PROBE}
_SECRETS = {"CKV_K8S_35": "the contract has the service read its secrets from the environment"}


def pod(at: Place, role: Role) -> Manifest:
    """The template of a role's pods."""
    is_api = role.port is not None
    container = _container(at, role.name, role.command, vcpu=cpu(role.vcpu), memory_mib=role.memory_mib)
    if is_api:
        container["env"] += _tracing(at)
        container |= {"ports": [{"name": "http", "containerPort": role.port}], **_probes(), **_leave()}
    spec = _spec(at, role.name, container, priority=ONLINE if is_api else BATCH)
    spec["terminationGracePeriodSeconds"] = grace_s(role)
    if role.most:
        spec["topologySpreadConstraints"] = _spread(at, role)
    return _template(at, role.name, spec)


def grace_s(role: Role) -> int:
    """How long a pod may take to end: all that it waits for, one after the other."""
    return LEAVE_S + DRAIN_S + CUT_S if role.port is not None else LONGEST_TASK_S + WORKER_MARGIN_S


def brief(at: Place, name: str, command: Sequence[str], *, vcpu: str, memory_mib: int) -> Manifest:
    """The template of a pod that does one thing and ends."""
    container = _container(at, name, command, vcpu=vcpu, memory_mib=memory_mib)
    return _template(at, name, {**_spec(at, name, container, priority=ONLINE), "restartPolicy": "Never"})


def skipped(at: Place, *, is_probed: bool) -> dict[str, str]:
    """Checkov's checks that are left out of a workload, as annotations with their reasons."""
    return skips({**_SKIPPED, **({} if is_probed else _UNPROBED), **({} if as_files(at) else _SECRETS)})


def as_files(at: Place) -> bool:
    """Whether the contract has secrets read from files."""
    return at.site.secrets.provider == "file"


def _template(at: Place, name: str, spec: Manifest) -> Manifest:
    return {"metadata": {"labels": at.labels(name), "annotations": {CHECKSUM: at.checksum}}, "spec": spec}


def _spec(at: Place, name: str, container: Manifest, *, priority: str) -> Manifest:
    return {
        "serviceAccountName": at.named(name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": at.named(priority),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": _volumes(at),
    }


def _container(at: Place, name: str, command: Sequence[str], *, vcpu: str, memory_mib: int) -> Manifest:
    return {
        "name": name,
        "image": f"{at.site.infra.image}@{UNSET_DIGEST}",
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": _environment(at),
        "resources": {"requests": {"cpu": vcpu, "memory": f"{memory_mib}Mi"}, "limits": {"memory": f"{memory_mib}Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(at),
    }


def _environment(at: Place) -> list[Manifest]:
    plain = {**settings(at.site), "HOME": DATA_PATH}
    told: list[Manifest] = [{"name": name, "value": value} for name, value in plain.items()]
    if as_files(at):
        return told
    return told + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": at.secret, "key": name}}} for name in secrets(at.site.env)
    ]


def _tracing(at: Place) -> list[Manifest]:
    return [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": COLLECTOR_URL}] if at.is_traced else []


def _volumes(at: Place) -> list[Manifest]:
    scratch_mib = SCRATCH_MIB + SCRATCH_FILES * (at.site.env.max_file_bytes >> 20)
    found: list[Manifest] = [
        {"name": "contract", "configMap": {"name": at.contract_map}},
        {"name": "data", "emptyDir": {"sizeLimit": f"{scratch_mib}Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{scratch_mib}Mi"}},
    ]
    if at.site.infra.blobs == "local":
        found.append({"name": "blobs", "persistentVolumeClaim": {"claimName": at.named("blobs")}})
    if as_files(at):
        found.append({"name": "secrets", "secret": {"secretName": at.secret}})
    return found


def _mounts(at: Place) -> list[Manifest]:
    contract = PurePosixPath(CONTRACT_PATH)
    found: list[Manifest] = [
        {"name": "contract", "mountPath": str(contract), "subPath": contract.name, "readOnly": True},
        {"name": "data", "mountPath": DATA_PATH},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (of the pod, and nobody else's)
    ]
    if at.site.infra.blobs == "local":
        found.append({"name": "blobs", "mountPath": f"{DATA_PATH}/blobs"})
    if as_files(at):
        found.append({"name": "secrets", "mountPath": str(contract.parent / str(at.site.secrets.path)), "readOnly": True})
    return found


def _probes() -> dict[str, Any]:
    """Alive is a matter of the process alone: a liveness that asked the database would turn its pause into an outage."""
    ready, alive = ({"httpGet": {"path": path, "port": "http"}} for path in ("/readyz", "/healthz"))
    return {
        "startupProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {**alive, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def _leave() -> dict[str, Any]:
    return {"lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}}}


def _spread(at: Place, role: Role) -> list[Manifest]:
    """Over zones and nodes, as far as there are some; each release by itself."""
    revision = "rollouts-pod-template-hash" if role.port is not None else "pod-template-hash"
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": at.selector(role.name)},
            "matchLabelKeys": [revision],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
