"""The service on virtual machines: two colours behind HAProxy on each, released batch by batch.

Roles and playbooks lie in `tree` as they are; what the contract says is in the inventory of each env, in the batches of deploy.yml and
in HAProxy's template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from pilotis.contract.export import to_json
from pilotis.derive.workload import DATA_PATH, DRAIN_S
from pilotis.render.ansible import hosts
from pilotis.render.files import File, Scene, to_yaml
from pilotis.render.haproxy import Proxy, configuration

_LITTER = ("__pycache__", ".pyc")


def files(scene: Scene) -> Iterator[File]:
    yield from _tree(scene)
    yield File(path="ansible/roles/proxy/templates/haproxy.cfg.j2", content=scene.banner() + proxy(scene))
    # What it says is the contract's; it takes no comment and no other key.
    yield File(path="ansible/files/pilotis.json", content=to_json(scene.plan.contract))
    for name, site in scene.sites.items():
        folder = f"ansible/inventory/{name}"
        head = scene.banner()
        if not site.hosts:
            head += f"# This env has no virtual machines. To give it some: hosts in [envs.{name}] of the contract.\n"
        yield File(path=f"{folder}/hosts.yml", content=head + to_yaml(hosts.inventory(site)), env=name)
        said = scene.banner() + _VARIABLES
        if site.infra.blobs == "local" and len(site.hosts) > 1:
            said += _SHARED.format(path=f"{DATA_PATH}/blobs")
        yield File(path=f"{folder}/group_vars/all/main.yml", content=said + to_yaml(hosts.variables(scene, site)), env=name)
        told = scene.banner() + _SECRETS.format(place=_KEPT[site.secrets.provider])
        yield File(path=f"{folder}/group_vars/all/secrets.yml", content=told + to_yaml(hosts.secret_values(site)), env=name)


_SECRETS = """\
# Where secrets are looked for, which is not what they are: on the machine that runs Ansible, {place}.
# They go into files that one user of each host can read, and are in no output.
"""


_KEPT = {
    "environment": "in variables of these names",
    "file": "in files of these names",
    "vault": "by `vault`, which is logged in there",
    "aws": "by `aws`, which is logged in there",
}
_VARIABLES = """\
# What the hosts of this env are told. To change one of these, change the contract; what it does not say can be given with -e, or in a
# file of your own in this folder, as for TLS:
#   pilotis_bind: ":443 ssl crt /etc/haproxy/tls.pem alpn h2,http/1.1 ssl-min-ver TLSv1.2"
"""
_SHARED = """\
# Original files stay on the host that took them in (infra.blobs = "local"), and workers of other hosts have to read them: mount one
# shared folder at {path} of all hosts, or write infra.blobs = "s3".
"""


def proxy(scene: Scene) -> str:
    """The template of HAProxy's configuration: one for all envs, since the longest answer is the contract's."""
    env = next(iter(scene.sites.values())).env
    each = (
        "{% for colour in ['blue', 'green'] %}",
        "{% for port in pilotis_ports[colour] %}",
    )
    ends = ("{% endfor %}", "{% endfor %}")
    return configuration(
        Proxy(
            bind="{{ pilotis_bind }}",
            # Weights are of 100, moved while it runs; these are the ones that it starts with.
            balance="roundrobin",
            servers=(
                *each,
                "server {{ colour }}{{ loop.index }} 127.0.0.1:{{ port }} weight {{ 100 if colour == colour_serving else 0 }}",
                *ends,
            ),
            total_s=env.total_s,
            drain_s=DRAIN_S,
            settings=(
                "log /dev/log local0 info",
                "stats socket {{ pilotis_socket }} mode 660 level admin",
                "{% if pilotis_haproxy_user %}",
                "user {{ pilotis_haproxy_user }}",
                "group {{ pilotis_haproxy_user }}",
                "{% endif %}",
            ),
            sections=(
                "# What each process counts, and HAProxy itself: for the machine that watches, and nobody else.",
                "frontend watched",
                "  bind :{{ pilotis_watch_port }}",
                "  http-request deny unless { src 127.0.0.1 {{ proxy_watchers | join(' ') }} }",
                "  http-request use-service prometheus-exporter if { path /metrics }",
                "  http-request return status 404 unless { path_reg ^/(blue|green)[0-9]+/metrics$ }",
                *each,
                "  use_backend only_{{ colour }}{{ loop.index }} if { path_beg /{{ colour }}{{ loop.index }}/ }",
                *ends,
                *each,
                "backend only_{{ colour }}{{ loop.index }}",
                "  http-request set-path /metrics",
                "  server process 127.0.0.1:{{ port }}",
                *ends,
            ),
        )
    )


def _tree(scene: Scene) -> Iterator[File]:
    deploy = scene.plan.contract.deploy
    batches = json.dumps(hosts.serial(deploy))
    stages = "all hosts at once" if deploy.strategy == "blue_green" else "a batch of hosts at a time"
    for path, text in sorted(_texts(resources.files("pilotis.render.ansible").joinpath("tree"), "ansible")):
        body = text.replace("[[ serial ]]", batches).replace("[[ stages ]]", stages)
        yield File(path=path, content=_headed(scene, path, body), executable=body.startswith("#!"))


def _headed(scene: Scene, path: str, body: str) -> str:
    """The banner comes first, but after what tells the system how to run a file; and playbooks begin as YAML does."""
    if body.startswith("#!"):
        first, _, rest = body.partition("\n")
        return f"{first}\n{scene.banner()}{rest}"
    if path.endswith((".yml", ".ansible-lint")):
        return f"{scene.banner()}---\n{body}"
    if path.endswith(".j2"):  # on the host the file says by itself who wrote it
        return "{#\n" + "".join(f"{line}\n" for line in scene.origin) + "#}\n" + body
    return scene.banner() + body


def _texts(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for child in folder.iterdir():
        if child.name.endswith(_LITTER):
            continue
        if child.is_dir():
            yield from _texts(child, f"{path}/{child.name}")
        else:
            yield f"{path}/{child.name}", child.read_text(encoding="utf-8")
