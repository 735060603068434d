"""The processes of a deployed service: how each is started, what it listens on, what it takes, and what it has to be told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING

from pilotis.contract.model import EXTRACTIVE

if TYPE_CHECKING:
    from pilotis.derive.plan import Env
    from pilotis.derive.site import Site

API_PORT = 8080
CONTRACT_PATH = "/etc/pilotis/pilotis.json"
"""Where every process finds the contract itself."""
DATA_PATH = "/var/lib/pilotis"
"""Scratch of a process: uploads under way, unpacked models. Nothing in it is missed."""
USER_ID = 10001
QUEUES = ("ingest", "embed", "eval")
"""Those with workers that grow with what waits."""
DRAIN_S = 30
"""How long an API process lets streams end."""
LONGEST_TASK_S = 900
"""After which a worker that is asked to end is no longer waited for. What it had in hand is leased, and found again."""
SHARES = {"ingest": Decimal("0.25"), "embed": Decimal("0.5"), "eval": Decimal("0.25")}
"""Of the sized workers, by queue: embedding takes the most. Each queue has one at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One kind of process. `memory_mib` is its limit; `vcpu` what it asks for; `port` None where it listens on none."""

    name: str
    command: tuple[str, ...]
    replicas: int
    vcpu: Decimal
    memory_mib: int
    port: int | None = None
    queue: str | None = None
    most: int | None = None
    """Up to how many it grows; None for a number that stays."""


def roles(site: Site) -> tuple[Role, ...]:
    """All processes of an env, the API first. `upkeep` and `schedule` are what others call beat: each looks by itself for what is due."""
    size = site.size
    api = Role(
        name="api",
        command=("python", "-m", "pilotis.api", "--host", "0.0.0.0", "--port", str(API_PORT), "--drain-s", str(DRAIN_S)),  # noqa: S104
        replicas=size.api_pods,
        vcpu=size.api_vcpu,
        memory_mib=1024,
        port=API_PORT,
        most=2 * size.api_pods,
    )
    workers = [
        Role(
            name=f"worker-{queue}",
            command=("python", "-m", "pilotis.tasks", queue),
            replicas=1,
            vcpu=Decimal("0.5"),
            memory_mib=2048 if queue == "ingest" else 1024,
            queue=queue,
            most=max(1, ceil(size.workers * SHARES[queue])),
        )
        for queue in QUEUES
    ]
    alone = [
        Role(name=name, command=("python", "-m", "pilotis.tasks", name), replicas=1, vcpu=Decimal("0.1"), memory_mib=512)
        for name in ("upkeep", "schedule")
    ]
    return (api, *workers, *alone)


def bucket(site: Site) -> str:
    """The bucket of the original files. All accounts of the cloud share one space of names, hence the mark of the domain."""
    return f"{site.name}-blobs-{hashlib.sha256(site.infra.domain.encode()).hexdigest()[:8]}"


def settings(site: Site) -> dict[str, str]:
    """The environment variables of every process that are no secrets."""
    stored = {"PILOTIS_BLOBS": f"s3://{bucket(site)}"} if site.infra.blobs == "s3" else {}
    return {
        "PILOTIS_ENV": site.env.name,
        "PILOTIS_CONTRACT": CONTRACT_PATH,
        "PILOTIS_DATA": DATA_PATH,
        "PILOTIS_LOG": "json",
        "PILOTIS_TRUSTED_HOPS": str(max(1, site.env.trusted_hops)),
        **stored,
    }


SERVERS = ("PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL", "PILOTIS_BROKER_URL")
"""Addresses with their passwords: the database; the Redis of budgets and caches, which may evict only what has a time to live; and the
Redis of the queues, which evicts nothing."""


def secrets(env: Env) -> tuple[str, ...]:
    """The environment variables that are secrets: the servers' addresses, then the keys of the models that the env uses."""
    models = [env.llm, env.compact, env.fallback, env.embedder, env.reranker if env.rerank else None]
    keys = {model.key_env for model in models if model and model.model != EXTRACTIVE and model.key_env}
    return (*SERVERS, *sorted(keys))


def kept_as(site: Site, name: str) -> str:
    """What a secret is called where the contract keeps it: a name in AWS, a file, or a path in Vault whose field `value` holds it."""
    return f"{site.secrets.path}/{name}"


def named(site: Site, what: str) -> str:
    """What belongs to a role, and what stands beside it, on the cluster: all in the namespace `site.name`. A role's workload and its
    service account have the same name.
    """
    return f"{site.name}-{what}"
