"""The whole service on one machine, one file per env: an env's sizes, settings and secrets are its own, and a machine carries one env."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from pilotis.contract.export import to_json
from pilotis.derive.site import Site
from pilotis.derive.sizing import CacheSize
from pilotis.derive.workload import (
    API_PORT,
    CONTRACT_PATH,
    DATA_PATH,
    DRAIN_S,
    LONGEST_TASK_S,
    SERVERS,
    USER_ID,
    Role,
    roles,
    secrets,
    settings,
)
from pilotis.render.files import File, Scene, to_yaml
from pilotis.render.haproxy import Proxy, configuration
from pilotis.render.image import observers, pins
from pilotis.render.image.template import fill, probe

LEAST_CPUS = Decimal("0.5")
"""Of a process: with less, Python alone takes seconds to start."""
CACHE_MIB: Mapping[CacheSize, int] = {"S": 256, "M": 1024, "L": 4096}
"""Of each of the two Redis, for what it holds; its container gets as much again, for copies while it writes its file."""
POSTGRES_MIB_PER_SHARD = 2048
"""Of the database: about a million passages with their index stay in memory."""
WORKER_CONNECTIONS = 4
"""Of a worker to the database: one at work, one for its lease, one for metrics, one spare."""
SPARE_CONNECTIONS = 20
"""For the migration, backups and people."""
STOP_SPARE_S = 15
"""How much longer than a process drains it is left alone, before it is killed."""
REDIS_UID, POSTGRES_UID = 999, 999
"""In their images."""
USER, DATABASE = "pilotis", "pilotis"
SECRETS = "/run/secrets"


def files(scene: Scene, site: Site) -> Iterator[File]:
    folder, env = f"docker/{site.env.name}", site.env.name
    head = scene.banner() + _HEAD.format(env=env, name=site.name)
    yield File(path=f"{folder}/compose.yaml", content=head + to_yaml(compose(scene, site)), env=env)
    yield File(path=f"{folder}/common.yaml", content=scene.banner() + _COMMON + to_yaml(common(site)), env=env)
    yield File(path=f"{folder}/haproxy.cfg", content=scene.banner() + proxy(site), env=env)
    yield File(path=f"{folder}/prepare.sh", content=_prepare(scene, site), env=env, executable=True)
    yield File(path=f"{folder}/.gitignore", content=scene.banner() + "/secrets/\n/snapshots/\n", env=env)


_HEAD = """\
# Env {env!r} on one machine. First ./prepare.sh makes the secrets that are missing; then
#   PILOTIS_IMAGE=registry/pilotis@sha256:... docker compose up --detach --wait
# Only the proxy is reachable from elsewhere, and only if PILOTIS_BIND says so (0.0.0.0, say). It speaks plain HTTP: TLS ends before it,
# and whatever ends it writes X-Forwarded-For too, so infra.trusted_hops is 2 then.
"""


_COMMON = """\
# What the services of compose.yaml have in common. `contained`: nothing may be written but /tmp and what is mounted, no right is held,
# what ends is started again, logs do not fill the disk. `ours`: what runs in our image. `process`: those that serve or work.
"""


def compose(scene: Scene, site: Site) -> dict[str, Any]:
    """A file of the Compose Specification, for Docker Compose 2.23 and later."""
    watching = observers.observers(scene)
    ours = {role.name: _process(scene, site, role) for role in roles(site)}
    services = {
        "proxy": _proxy(),
        "migrate": _migrate(),
        **ours,
        **_stores(site),
        **{found.name: _observer(site, found) for found in watching},
    }
    kept = sorted(_own_files(site))
    return {
        "name": site.name,
        "services": services,
        "networks": {
            # Nothing but what it needs: the stores cannot reach the internet, nor it them.
            "edge": {},
            "data": {"internal": True},
            "outside": {},
            "watch": {},
        },
        "volumes": {
            name: {} for name in ("data", "postgres", "broker", "cache", *(found.name for found in watching if found.keeps))
        },
        "secrets": {name: {"file": f"./secrets/{name}"} for name in kept},
        "configs": {"contract": {"content": to_json(scene.plan.contract).replace("$", "$$")}},
    }


def proxy(site: Site) -> str:
    """Docker's own name server tells which processes there are; those that are not ready get no requests."""
    api = roles(site)[0]
    most = api.most or api.replicas
    return configuration(
        Proxy(
            bind=f":{API_PORT}",
            servers=[f"server-template api {most} api:{API_PORT} resolvers docker init-addr none"],
            total_s=site.env.total_s,
            drain_s=DRAIN_S,
            settings=("log stdout format raw local0 info",),
            sections=(
                "resolvers docker",
                "  nameserver dns 127.0.0.11:53",
                "  hold valid 2s",
                "frontend watched",
                f"  bind :{observers.PROXY_PORT}",
                "  http-request use-service prometheus-exporter if { path /metrics }",
            ),
        )
    )


def common(site: Site) -> dict[str, Any]:
    """What services have in common, for `extends`: how each is contained, and how each process of ours is told what it has to know."""
    ours = {
        "image": "${PILOTIS_IMAGE:?name the image by its digest}",
        "user": f"{USER_ID}:{USER_ID}",
        "environment": settings(site),
        "configs": [{"source": "contract", "target": CONTRACT_PATH}],
        "networks": ["data"],
        "healthcheck": {"disable": True},
    }
    process = {
        "environment": {"OTEL_EXPORTER_OTLP_ENDPOINT": observers.COLLECTOR_URL},
        "secrets": list(secrets(site.env)),
        "volumes": [f"data:{DATA_PATH}"],
        "networks": ["data", "outside", "watch"],
        "depends_on": {"migrate": {"condition": "service_completed_successfully"}, "broker": _HEALTHY, "cache": _HEALTHY},
    }
    return {
        "services": {
            "contained": {
                "init": True,
                "restart": "unless-stopped",
                "read_only": True,
                "tmpfs": ["/tmp"],  # noqa: S108 - of the container
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true"],
                "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
            },
            "ours": {"extends": {"service": "contained"}, **ours},
            "process": {"extends": {"service": "ours"}, **process},
        }
    }


def like(service: str, *, cpus: Decimal, memory_mib: int, replicas: int | None = None) -> dict[str, Any]:
    """A service as `common` has it, within these limits."""
    limits = {"limits": {"cpus": str(cpus), "memory": f"{memory_mib}M"}}
    count = {} if replicas is None else {"replicas": replicas}
    return {"extends": {"file": "common.yaml", "service": service}, "deploy": {**count, "resources": limits}}


def _process(scene: Scene, site: Site, role: Role) -> dict[str, Any]:
    """Workers of a queue are as many as the size says at most: one machine has nothing to gain from fewer."""
    is_api = role.port is not None
    count = role.replicas if is_api else (role.most or role.replicas)
    service = like("process", cpus=max(role.vcpu, LEAST_CPUS), memory_mib=role.memory_mib, replicas=count)
    service |= {
        "command": list(role.command),
        "stop_grace_period": f"{(DRAIN_S if is_api else LONGEST_TASK_S) + STOP_SPARE_S}s",
    }
    if is_api:
        checked = _checked(["python", "-c", probe("/readyz")], start_s=120)
        service |= {"networks": ["edge"], "healthcheck": {"disable": False, **checked}}
    if role.name == "schedule" and (mounts := folders(scene, site, snapshots=PurePosixPath("snapshots"))):
        service["volumes"] = [mount if mount.startswith("/") else f"./{mount}" for mount in mounts]
    return service


def _migrate() -> dict[str, Any]:
    return {
        **like("ours", cpus=LEAST_CPUS, memory_mib=512),
        "command": ["python", "-m", "pilotis", "migrate"],
        "restart": "on-failure:3",
        "secrets": list(SERVERS),
        "tmpfs": [f"{DATA_PATH}:uid={USER_ID},gid={USER_ID}"],
        "depends_on": {"postgres": _HEALTHY},
    }


def _proxy() -> dict[str, Any]:
    return {
        **like("contained", cpus=Decimal(1), memory_mib=256),
        "image": str(pins.HAPROXY),
        "networks": ["edge", "watch"],
        "ports": [f"${{PILOTIS_BIND:-127.0.0.1}}:${{PILOTIS_PORT:-{API_PORT}}}:{API_PORT}"],
        "volumes": ["./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"],
        "depends_on": {"api": {"condition": "service_started"}},
        "healthcheck": _checked(["wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{observers.PROXY_PORT}/metrics"]),
        # It lets requests end on this signal, and cuts them on SIGTERM.
        "stop_signal": "SIGUSR1",
        "stop_grace_period": f"{DRAIN_S + STOP_SPARE_S}s",
    }


def _stores(site: Site) -> dict[str, Any]:
    memory_mib = POSTGRES_MIB_PER_SHARD * site.size.shards
    return {
        "postgres": {
            **like("contained", cpus=Decimal(2 * site.size.shards), memory_mib=memory_mib),
            "image": str(pins.POSTGRES),
            "networks": ["data"],
            "command": ["postgres", "-c", f"max_connections={connections(site)}", "-c", f"shared_buffers={memory_mib // 4}MB"],
            "user": f"{POSTGRES_UID}:{POSTGRES_UID}",
            "environment": {"POSTGRES_USER": USER, "POSTGRES_DB": DATABASE, "POSTGRES_PASSWORD_FILE": f"{SECRETS}/postgres"},
            "secrets": ["postgres"],
            "tmpfs": [f"/var/run/postgresql:uid={POSTGRES_UID},gid={POSTGRES_UID}"],
            "volumes": ["postgres:/var/lib/postgresql/data"],
            "shm_size": "256m",
            "healthcheck": _checked(["pg_isready", "--username", USER, "--dbname", DATABASE], start_s=60),
            "stop_grace_period": "60s",
        },
        # Its lists are the queues: nothing of it may be forgotten.
        "broker": _redis("broker", "noeviction", CACHE_MIB["S"]),
        # Spent and held budgets have no time to live and stay; answers have one, and the least used of them go.
        "cache": _redis("cache", "volatile-lru", CACHE_MIB[site.size.cache]),
    }


def _redis(name: str, policy: str, held_mib: int) -> dict[str, Any]:
    ask = f'REDISCLI_AUTH="$$(cut -d " " -f 2 {SECRETS}/{name})" redis-cli ping | grep -q PONG'
    return {
        **like("contained", cpus=Decimal(1), memory_mib=2 * held_mib),
        "image": str(pins.REDIS),
        "networks": ["data"],
        # The file says `requirepass ...`: a password on the command line would be read in the list of processes.
        "command": [
            *("redis-server", f"{SECRETS}/{name}", "--maxmemory", f"{held_mib}mb", "--maxmemory-policy", policy),
            *("--appendonly", "yes", "--dir", "/data"),
        ],
        "user": f"{REDIS_UID}:1000",
        "secrets": [name],
        "volumes": [f"{name}:/data"],
        "healthcheck": _checked(["CMD-SHELL", ask]),
        "stop_grace_period": "60s",
    }


def _observer(site: Site, observer: observers.Observer) -> dict[str, Any]:
    """They listen on this machine alone: none of them asks who is there, but Grafana."""
    mounts = [f"../../monitoring/{site.env.name}/{path}:{target}:ro" for path, target in observer.rendered.items()]
    if observer.name == "alertmanager":
        mounts.append(f"./secrets/alertmanager:{observers.ALERT_SECRETS}:ro")
    if observer.keeps:
        mounts.append(f"{observer.name}:{observer.keeps}")
    service = like("contained", cpus=observer.cpus, memory_mib=observer.memory_mib)
    service |= {"image": str(observer.pin), "networks": ["watch", "outside"], "volumes": mounts}
    if observer.arguments:
        service["command"] = list(observer.arguments)
    if observer.environment:
        service["environment"] = dict(observer.environment)
    if observer.name == "grafana":
        service["secrets"] = ["grafana"]
    if observer.port is None:
        return service | {"healthcheck": {"disable": True}}
    asked = ["wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{observer.port}{observer.ready}"]
    return service | {"ports": [f"127.0.0.1:{observer.port}:{observer.port}"], "healthcheck": _checked(asked, start_s=30)}


def connections(site: Site) -> int:
    """To the database at most, by all processes together."""
    api, *others = roles(site)
    workers = sum(role.most or role.replicas for role in others)
    return api.replicas * site.env.pool_max + workers * WORKER_CONNECTIONS + SPARE_CONNECTIONS


def folders(scene: Scene, site: Site, *, snapshots: PurePosixPath) -> list[str]:
    """What `schedule` needs besides: the folders that are kept in step with, and the one of snapshots, which is `snapshots` outside."""
    paths = {found.path for found in scene.plan.sources_of(site.env.name) if found.kind == "folder"}
    mounts = [f"{path}:{PurePosixPath(DATA_PATH, path)}:ro" for path in sorted(paths)]
    if keeps_snapshots(site) and site.env.snapshot:
        mounts.append(f"{snapshots}:{PurePosixPath(DATA_PATH, site.env.snapshot.place)}")
    return mounts


def keeps_snapshots(site: Site) -> bool:
    """Whether it does so on its own machine."""
    return site.env.snapshot is not None and "://" not in site.env.snapshot.place


def _own_files(site: Site) -> set[str]:
    return {*secrets(site.env), "postgres", "broker", "cache", "grafana"}


_HEALTHY = {"condition": "service_healthy"}


def _checked(command: list[str], *, start_s: int = 10) -> dict[str, Any]:
    test = command if command[0] == "CMD-SHELL" else ["CMD", *command]
    return {"test": test, "interval": "10s", "timeout": "5s", "retries": 5, "start_period": f"{start_s}s"}


def _prepare(scene: Scene, site: Site) -> str:
    return fill(
        "prepare.sh.j2",
        banner=scene.banner(),
        env=site.env.name,
        keys=[name for name in secrets(site.env) if name not in SERVERS],
        user=USER,
        database=DATABASE,
        uid=USER_ID,
        snapshots=keeps_snapshots(site),
    )
