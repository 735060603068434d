"""The commands of an env's platform, ready to be pasted: on Kubernetes, or on virtual machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pilotis.derive.site import Site
from pilotis.derive.workload import LONGEST_TASK_S, named, roles

PART = "app.kubernetes.io/component"
"""The label that says of a pod which process it is."""
ENDED_S = LONGEST_TASK_S + 60
"""How long to wait for all processes to end: a worker may finish what it has in hand."""
ALONE_S = 14_400
"""How long a console of its own stays at most."""


class Commands(Protocol):
    """What an operator does with a platform. Each gives one or several lines of a shell."""

    @property
    def platform(self) -> str: ...

    @property
    def tools(self) -> str:
        """The program that these commands begin with."""

    def console(self, role: str = "schedule") -> str:
        """Opens a shell in which `pilotis` runs as this process does: same contract, same secrets, same network."""

    def alone(self) -> str:
        """Makes a place for a console that goes on while all processes are stopped; before `stop`."""

    def enter(self) -> str:
        """Goes into what `alone` made, after `stop`."""

    def leave(self) -> str:
        """Removes what `alone` made."""

    def pods(self) -> str:
        """Shows every process: whether it runs, since when, how often it was started."""

    def logs(self, role: str, since: str = "15m") -> str: ...

    def scale(self, counts: Mapping[str, int]) -> str:
        """Never fewer of each of these processes, from now on."""

    def restart(self) -> str:
        """Starts every process again, one after the other, so that it reads its secrets."""

    def apply(self) -> str:
        """Puts what was rendered in force, in stages."""

    def hurry(self) -> str:
        """Lets what was applied pass all its stages at once."""

    def stop(self) -> str:
        """Stops every process of the service."""

    def start(self) -> str:
        """The way back from `stop`."""

    def abort(self) -> str:
        """Calls back a release that is on its way, without `pilotis`."""

    def back(self) -> str:
        """Brings the version before back, without `pilotis`."""

    def place(self, secret: str) -> str:
        """Where a secret is kept."""

    def put(self, secret: str) -> str:
        """Stores a secret that is then pasted, and ended with Ctrl-D: one line, since a second one would be taken for the secret."""


def commands(site: Site) -> Commands:
    return Machines(site) if site.hosts else Kubernetes(site)


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The API is a Rollout of Argo; KEDA scales it and the queues' workers. A release is an overlay in `release/ENV`."""

    site: Site
    platform = "Kubernetes"
    tools = "kubectl"

    def console(self, role: str = "schedule") -> str:
        pod = self._pod(role) if role == "api" else f"deploy/{self._name(role)}"
        return self._do(f"exec -it {pod} -- sh")

    def alone(self) -> str:
        copy = f"--copy-to=console --container=schedule -- sleep {ALONE_S}"
        return self._do(f"debug {self._pod('schedule')} {copy}")

    def enter(self) -> str:
        # A copy bears no labels, and without them no policy lets it reach a server.
        labels = f"app.kubernetes.io/instance={self.site.name} {PART}=schedule"
        return f"{self._do(f'label pod console {labels}')}\n{self._do('exec -it pod/console --container=schedule -- sh')}"

    def leave(self) -> str:
        return self._do("delete pod console")

    def pods(self) -> str:
        return self._do("get pods -o wide")

    def logs(self, role: str, since: str = "15m") -> str:
        return self._do(f"logs -l {PART}={role} --since={since} --prefix --tail=-1")

    def scale(self, counts: Mapping[str, int]) -> str:
        most = {role.name: role.most or role.replicas for role in roles(self.site)}
        lines = []
        for role, count in counts.items():
            bounds = json.dumps(
                {"spec": {"minReplicaCount": count, "maxReplicaCount": max(count, most[role])}}, separators=(",", ":")
            )
            lines.append(self._do(f"patch scaledobject {self._name(role)} --type=merge -p '{bounds}'"))
        return "\n".join(lines)

    def restart(self) -> str:
        return f"{self._argo('restart')}\n{self._do('rollout restart deployment')}"

    def apply(self) -> str:
        overlay, job = f"kubectl kustomize release/{self.site.env.name}", self._name("migrate")
        return "\n".join(
            [
                self._do(f"delete job {job} --ignore-not-found"),
                f"{overlay} | kubectl apply -f - -l pilotis/step=first",
                self._do(f"wait --for=condition=complete --timeout=30m job/{job}"),
                f"{overlay} | kubectl apply -f -",
            ]
        )

    def hurry(self) -> str:
        return f"{self._argo('promote')} --full"

    def stop(self) -> str:
        return "\n".join(
            [
                self._do(f"annotate scaledobject {self._scaled} autoscaling.keda.sh/paused-replicas=0 --overwrite"),
                self._do(f"scale {self._alone} --replicas=0"),
                self._do(f"wait --for=delete pod -l app.kubernetes.io/instance={self.site.name} --timeout={ENDED_S}s"),
            ]
        )

    def start(self) -> str:
        return "\n".join(
            [
                self._do(f"annotate scaledobject {self._scaled} autoscaling.keda.sh/paused-replicas-"),
                self._do(f"scale {self._alone} --replicas=1"),
            ]
        )

    def abort(self) -> str:
        return self._argo("abort")

    def back(self) -> str:
        return f"{self._argo('undo')}\n{self.hurry()}"

    def place(self, secret: str) -> str:
        kept = self.site.secrets
        return f"{kept.path}/{secret}" if kept.provider in {"aws", "vault"} else f"Secret {self._name('secrets')}: {secret}"

    def put(self, secret: str) -> str:
        if self.site.secrets.provider in {"aws", "vault"}:
            return f"{_put(self.site, secret)} && {self.fetch()}"
        patch = self._do(f"patch secret {self._name('secrets')} --type=merge")
        return f'{patch} -p "{{\\"data\\":{{\\"{secret}\\":\\"$(base64 -w0)\\"}}}}"'

    def fetch(self) -> str:
        """Lets the cluster look at once for what was put into the store."""
        return self._do(f'annotate externalsecret {self._name("secrets")} force-sync="$(date +%s)" --overwrite')

    def _do(self, what: str) -> str:
        return f"kubectl -n {self.site.name} {what}"

    def _argo(self, verb: str) -> str:
        return f"kubectl argo rollouts -n {self.site.name} {verb} {self._name('api')}"

    def _pod(self, role: str) -> str:
        """Of a Rollout kubectl knows no pods: they are found by their label."""
        found = self._do(f"get pod -l {PART}={role} -o jsonpath='{{.items[0].metadata.name}}'")
        return f'"$({found})"'

    def _name(self, what: str) -> str:
        return named(self.site, what)

    @property
    def _scaled(self) -> str:
        return " ".join(self._name(role.name) for role in roles(self.site) if role.most is not None)

    @property
    def _alone(self) -> str:
        return " ".join(f"deploy/{self._name(role.name)}" for role in roles(self.site) if role.most is None)


def _put(site: Site, secret: str) -> str:
    """Into the store that the contract names, from what is typed."""
    kept = site.secrets
    if kept.provider == "aws":
        return (
            f"aws secretsmanager put-secret-value --region {site.infra.region} --secret-id {kept.path}/{secret} "
            "--secret-string file:///dev/stdin"
        )
    mount, _, path = (kept.path or "").partition("/")
    return f"vault kv put -mount={mount} {path}/{secret} value=-"


@dataclass(frozen=True, slots=True)
class Machines:
    """Units of systemd on hosts, put there by Ansible; the API in two colours behind HAProxy."""

    site: Site
    platform = "systemd"
    tools = "ansible"

    def console(self, role: str = "schedule") -> str:
        return self._on_first(f"docker exec -it {self._unit(role)} start sh", tty=True)

    def alone(self) -> str:
        name = self._unit("schedule")
        image = f"$(sudo docker inspect --format {{{{.Config.Image}}}} {name})"
        given = f"--env-file /etc/pilotis/settings.env --volumes-from {name}"
        return self._on_first(f"docker run --detach --init --name console {given} {image} sleep {ALONE_S}")

    def enter(self) -> str:
        return self._on_first("docker exec -it console start sh", tty=True)

    def leave(self) -> str:
        return self._on_first("docker rm --force console")

    def pods(self) -> str:
        return self._everywhere('systemctl list-units --all "pilotis-*"')

    def logs(self, role: str, since: str = "15m") -> str:
        units = '-u "pilotis-blue-*" -u "pilotis-green-*"' if role == "api" else f'-u "pilotis-{role}*"'
        return self._everywhere(f"journalctl --no-pager --output=cat --since=-{since} {units}")

    def scale(self, counts: Mapping[str, int]) -> str:  # noqa: ARG002 (a host has as many as the contract gives it)
        env = self.site.env.name
        told = f"# Add a host to envs.{env}.hosts in the contract, then:"
        return f"{told}\npilotis --env {env} render --output .\n{self.apply()}"

    def restart(self) -> str:
        again = self._everywhere('systemctl restart "pilotis-*"', forks=1)
        return f"{self._play('install')}\n{again}"

    def apply(self) -> str:
        return f"{self._play('install')}\n{self._play('deploy', 'pilotis_digest=sha256:DIGEST')}"

    def hurry(self) -> str:
        return self._play("deploy", "pilotis_digest=sha256:DIGEST", "pilotis_shares=[100]")

    def stop(self) -> str:
        return self._everywhere('systemctl stop "pilotis-*"')

    def start(self) -> str:
        return self._everywhere("cd /etc/systemd/system && systemctl start pilotis-*.service")

    def abort(self) -> str:
        return self.back()

    def back(self) -> str:
        return self._play("rollback")

    def place(self, secret: str) -> str:
        kept = self.site.secrets
        return secret if kept.provider == "environment" else f"{kept.path}/{secret}"

    def put(self, secret: str) -> str:
        """Where Ansible looks for it; `restart` brings it to the hosts."""
        kept = self.site.secrets
        if kept.provider in {"aws", "vault"}:
            return _put(self.site, secret)
        return f"cat > {kept.path}/{secret}" if kept.provider == "file" else f"read -r -s {secret} && export {secret}"

    def _play(self, book: str, *known: str) -> str:
        told = "".join(f" -e '{one}'" for one in known)
        return f"(cd ansible && ansible-playbook -i inventory/{self.site.env.name} {book}.yml{told})"

    def _everywhere(self, what: str, forks: int | None = None) -> str:
        at_once = "" if forks is None else f" --forks {forks}"
        return f"(cd ansible && ansible -i inventory/{self.site.env.name} pilotis --become{at_once} -m shell -a '{what}')"

    def _on_first(self, what: str, *, tty: bool = False) -> str:
        """On the host that has what there is one of."""
        return f"ssh {'-t ' if tty else ''}{self.site.hosts[0]} 'sudo {what}'"

    def _unit(self, role: str) -> str:
        """The container of a role; the API's has a colour, and the workers' a number."""
        return (
            "$(sudo docker ps --quiet --filter name=pilotis-blue --filter name=pilotis-green | head -n 1)"
            if role == "api"
            else f"pilotis-{role}"
        )
