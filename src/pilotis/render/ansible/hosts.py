"""Which machines an env has, what runs on each of them, and what each has to be told."""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from pathlib import PurePosixPath
from typing import Any

from pilotis.contract.deploy import Deploy
from pilotis.derive.site import Site
from pilotis.derive.workload import (
    API_PORT,
    CONTRACT_PATH,
    DATA_PATH,
    DRAIN_S,
    LONGEST_TASK_S,
    USER_ID,
    Role,
    roles,
    secrets,
    settings,
)
from pilotis.render.files import Scene
from pilotis.render.image import compose, observers

BLUE_PORT, GREEN_PORT = 8101, 8201
"""The first of each colour; a host has as many of each as it takes to carry its part of the sized processes."""
MOST_PROCESSES = GREEN_PORT - BLUE_PORT
WATCH_PORT = 9180
"""Where HAProxy passes on what each process counts, to the machine that watches alone."""
READY_S, READY_PAUSE_S = 180, 2
"""How long a process may take until it is ready, and how often it is asked."""
WATCH_S = 60
"""How long each share is watched before the next one."""
GRAFANA_UID = 472
"""In its image."""


def inventory(site: Site) -> dict[str, Any]:
    """The first host has what is alone in the env, the last one what watches: with two hosts they do not share one."""
    hosts = site.hosts
    groups = {"api": hosts, "workers": hosts, "alone": hosts[:1], "monitoring": hosts[-1:]}
    return {"pilotis": {"children": {name: {"hosts": {host: {} for host in of_it}} for name, of_it in groups.items()}}}


def serial(deploy: Deploy) -> list[str]:
    """How many of the hosts each batch takes. Stages are shares reached, and batches what is added, so [5, 25, 100] is 5 %, 20 %, and
    the rest. Switching from one colour to the other has one batch.
    """
    if deploy.strategy == "blue_green":
        return ["100%"]
    added = [stage - before for before, stage in zip((0, *deploy.stages), deploy.stages, strict=False)]
    return [*(f"{share}%" for share in added[:-1]), "100%"]


def shares(site: Site, deploy: Deploy) -> list[int]:
    """The shares of its requests that a host moves, one after the other. Where one host is more than the first stage, hosts alone cannot
    be taken in such steps, and each goes through the stages itself.
    """
    if deploy.strategy == "blue_green" or len(site.hosts) * deploy.stages[0] >= 100:
        return [100]
    return list(deploy.stages)


def ports(site: Site) -> dict[str, list[int]]:
    """By colour. Raises nothing: more processes than ports between the colours are cut, which no size of ours reaches."""
    count = min(MOST_PROCESSES, _here(roles(site)[0].replicas, site))
    return {"blue": [BLUE_PORT + number for number in range(count)], "green": [GREEN_PORT + number for number in range(count)]}


def variables(scene: Scene, site: Site) -> dict[str, Any]:
    """What all hosts of an env know. Every path begins with `pilotis_root`, so that all of it can be tried in a folder."""
    api, contract = roles(site)[0], scene.plan.contract
    return {
        "pilotis_name": site.name,
        "pilotis_env": site.env.name,
        "pilotis_image": contract.infra.image,
        "pilotis_api": {
            "command": list(api.command),
            "port": API_PORT,
            "cpus": str(max(api.vcpu, compose.LEAST_CPUS)),
            "memory_mib": api.memory_mib,
            "grace_s": DRAIN_S + compose.STOP_SPARE_S,
        },
        "pilotis_ports": ports(site),
        "pilotis_workers": [found for role in roles(site) if role.queue for found in _units(scene, site, role)],
        "pilotis_alone": [
            found for role in roles(site) if not role.queue and role.port is None for found in _units(scene, site, role)
        ],
        "pilotis_settings": {
            **settings(site),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{{{{ groups['monitoring'][0] }}}}:{observers.OTLP_PORT}",
        },
        **_release(site, contract.deploy, contract.slo.error_rate),
        **_places(),
        "pilotis_observers": [_observer(found) for found in observers.observers(scene)],
    }


def secret_values(site: Site) -> dict[str, Any]:
    """Each secret as whoever runs Ansible finds it, where the contract says that it is kept. Vault and AWS are asked by their own programs."""
    path = site.secrets.path or ""
    mount, _, below = path.strip("/").partition("/")

    aws = f"aws secretsmanager get-secret-value --region {site.infra.region} --query SecretString --output text"

    def looked_up(name: str) -> str:
        forms = {
            "environment": ("env", name),
            "file": ("file", f"{path}/{name}"),
            "vault": ("pipe", f"vault kv get -mount={mount} -field=value {below}/{name}"),
            "aws": ("pipe", f"{aws} --secret-id {path}/{name}"),
        }
        plugin, told = forms[site.secrets.provider]
        return f"{{{{ lookup('ansible.builtin.{plugin}', '{told}') }}}}"

    return {
        "pilotis_secrets": {name: looked_up(name) for name in secrets(site.env)},
        # Names alone, for whoever has to say what is missing.
        "pilotis_secrets_missing": "{{ pilotis_secrets | dict2items | selectattr('value', 'match', '^\\s*$') | map(attribute='key') }}",
        "pilotis_grafana_password": looked_up("GRAFANA_PASSWORD"),
    }


def _release(site: Site, deploy: Deploy, error_rate: Decimal) -> dict[str, Any]:
    return {
        "pilotis_shares": shares(site, deploy),
        "pilotis_watch_s": WATCH_S,
        "pilotis_error_rate": str(error_rate),
        "pilotis_min_sample": deploy.min_sample,
        "pilotis_rolls_back": deploy.rollback_on == "slo_breach",
        "pilotis_ready_tries": READY_S // READY_PAUSE_S,
        "pilotis_ready_pause_s": READY_PAUSE_S,
    }


def _places() -> dict[str, Any]:
    """`pilotis_services` is false where only files shall be written: no package, no user, no unit is touched then."""
    return {
        "pilotis_services": True,
        "pilotis_uid": USER_ID,
        "pilotis_root_uid": 0,
        "pilotis_root": "",
        "pilotis_etc": "{{ pilotis_root }}/etc/pilotis",
        "pilotis_units": "{{ pilotis_root }}/etc/systemd/system",
        "pilotis_libexec": "{{ pilotis_root }}/usr/local/lib/pilotis",
        "pilotis_state": "{{ pilotis_root }}/var/lib/pilotis-release",
        "pilotis_data": f"{{{{ pilotis_root }}}}{DATA_PATH}",
        "pilotis_data_inside": DATA_PATH,
        "pilotis_contract_inside": CONTRACT_PATH,
        "pilotis_haproxy": "/usr/sbin/haproxy",
        "pilotis_haproxy_user": "haproxy",
        "pilotis_haproxy_config": "{{ pilotis_root }}/etc/haproxy/haproxy.cfg",
        "pilotis_socket": "{{ pilotis_root }}/run/haproxy/admin.sock",
        "pilotis_bind": ":80",
        "pilotis_watch_port": WATCH_PORT,
        "pilotis_watchers": "{{ groups['monitoring'] }}",
        "pilotis_monitoring": "{{ pilotis_root }}/etc/pilotis-monitoring",
        "pilotis_grafana_uid": GRAFANA_UID,
    }


def _observer(observer: observers.Observer) -> dict[str, Any]:
    """They are on their host's own network, and listen on loopback alone, but the collector: processes of all hosts send it traces."""
    here = "{{ pilotis_monitoring }}"
    arguments, environment = list(observer.arguments), dict(observer.environment)
    if observer.listens:
        arguments.append(f"{observer.listens}=127.0.0.1:{observer.port}")
    mounts = [f"{here}/{path}:{target}:ro" for path, target in observer.rendered.items()]
    if observer.name == "prometheus":  # what it scrapes is on hosts here
        mounts = [mount.replace("/prometheus.yml:", "/prometheus.hosts.yml:", 1) for mount in mounts]
    if observer.name == "alertmanager":
        mounts.append(f"{here}/secrets/alertmanager:{observers.ALERT_SECRETS}:ro")
    if observer.name == "grafana":
        environment["GF_SERVER_HTTP_ADDR"] = "127.0.0.1"
        mounts.append(f"{here}/secrets/grafana:{observers.GRAFANA_PASSWORD}:ro")
    if observer.keeps:
        mounts.append(f"pilotis-{observer.name}:{observer.keeps}")
    return {
        "name": observer.name,
        "image": str(observer.pin),
        "memory_mib": observer.memory_mib,
        "arguments": arguments,
        "environment": environment,
        "mounts": mounts,
    }


def _units(scene: Scene, site: Site, role: Role) -> list[dict[str, Any]]:
    """The units of a host: workers are spread over all of them, those that are alone stand where `alone` says."""
    count = _here(role.most or role.replicas, site) if role.queue else role.replicas
    mounts = []
    if role.name == "schedule":
        mounts = compose.folders(scene, site, snapshots=PurePosixPath("{{ pilotis_root }}/var/lib/pilotis-snapshots"))
    return [
        {
            "name": f"pilotis-{role.name}" + (f"-{number}" if role.queue else ""),
            "command": list(role.command),
            "cpus": str(max(role.vcpu, compose.LEAST_CPUS)),
            "memory_mib": role.memory_mib,
            "grace_s": LONGEST_TASK_S,
            **({"mounts": mounts} if mounts else {}),
        }
        for number in range(1, count + 1)
    ]


def _here(count: int, site: Site) -> int:
    """A host's part of so many processes of an env."""
    return ceil(count / max(1, len(site.hosts)))
