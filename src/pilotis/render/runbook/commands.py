"""The commands of an env's platform, ready to be pasted: on Kubernetes, or on virtual machines."""

from __future__ import annotations

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

    def scale(self, role: str, count: int) -> str:
        """Never fewer than so many from now on."""

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
        """Stores a secret that is then typed, or pasted, and ended with Ctrl-D."""


def commands(site: Site) -> Commands:
    return Machines(site) if site.hosts else Kubernetes(site)


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The API is a Rollout of Argo; KEDA scales it and the queues' workers. A release is an overlay in `release/ENV`."""

    site: Site
    platform = "Kubernetes"
    tools = "kubectl"

    def console(self, role: str = "schedule") -> str:
        return self._do(f"exec -it {self._pod(role)} -- sh")

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

    def scale(self, role: str, count: int) -> str:
        return self._do(f'patch scaledobject {self._name(role)} --type=merge -p \'{{"spec":{{"minReplicaCount":{count}}}}}\'')

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
        name = self._name("secrets")
        if self.site.secrets.provider in {"aws", "vault"}:
            fetch = self._do(f'annotate externalsecret {name} force-sync="$(date +%s)" --overwrite')
            return f"{_put(self.site, secret)}\n{fetch}"
        patch = f'-p "{{\\"data\\":{{\\"{secret}\\":\\"$VALUE\\"}}}}"'
        return f"VALUE=$(base64 -w0)\n{self._do(f'patch secret {name} --type=merge')} {patch}"

    def _do(self, what: str) -> str:
        return f"kubectl -n {self.site.name} {what}"

    def _argo(self, verb: str) -> str:
        return f"kubectl argo rollouts -n {self.site.name} {verb} {self._name('api')}"

    def _pod(self, role: str) -> str:
        """Of a Rollout kubectl knows no pods: they are found by their label."""
        found = self._do(f"get pod -l {PART}={role} -o name | head -n 1")
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
    """Containers on hosts, put there by Ansible; the API in two colours behind HAProxy."""

    site: Site
    platform = "VM"
    tools = "ansible"

    def console(self, role: str = "schedule") -> str:
        return f"ssh -t {self.site.hosts[0]} sudo docker exec -it {self._name(role)} sh"

    def alone(self) -> str:
        name = self._name("schedule")
        image = f"$(sudo docker inspect --format={{{{.Config.Image}}}} {name})"
        run = f"sudo docker run -d --name console --network container:{name} --volumes-from {name} {image} sleep {ALONE_S}"
        return f"ssh {self.site.hosts[0]} '{run}'"

    def enter(self) -> str:
        return f"ssh -t {self.site.hosts[0]} sudo docker exec -it console sh"

    def leave(self) -> str:
        return f"ssh {self.site.hosts[0]} sudo docker rm -f console"

    def pods(self) -> str:
        return self._everywhere(f"docker ps --all --filter name={self.site.name}")

    def logs(self, role: str, since: str = "15m") -> str:
        found = f"docker ps --quiet --filter name={self._name(role)}"
        return self._everywhere(f"{found} | xargs -n 1 docker logs --since {since}")

    def scale(self, role: str, count: int) -> str:
        return f"{self.apply()} --tags {role} --extra-vars {role.replace('-', '_')}_count={count}"

    def restart(self) -> str:
        return self.apply()

    def apply(self) -> str:
        return f"ansible-playbook -i ansible/inventory/{self.site.env.name}.yml ansible/deploy.yml"

    def hurry(self) -> str:
        return f"{self.apply()} --extra-vars serial=100%"

    def stop(self) -> str:
        return self._everywhere(f"docker ps --quiet --filter name={self.site.name} | xargs docker stop --time {ENDED_S}")

    def start(self) -> str:
        return self._everywhere(f"docker ps --all --quiet --filter name={self.site.name} | xargs docker start")

    def abort(self) -> str:
        return self.back()

    def place(self, secret: str) -> str:
        kept = self.site.secrets
        return secret if kept.provider == "environment" else f"{kept.path}/{secret}"

    def back(self) -> str:
        return f"{self.apply()} --extra-vars image={self.site.infra.image}@sha256:DIGEST"

    def put(self, secret: str) -> str:
        if self.site.secrets.provider in {"aws", "vault"}:
            return _put(self.site, secret)
        if self.site.secrets.provider == "file":
            path = self.site.secrets.path
            return f"VALUE=$(cat)\n{self._everywhere(f'tee {path}/{secret} >/dev/null <<< $VALUE')}"
        return f"ansible-vault edit ansible/secrets/{self.site.env.name}.yml   # {secret}"

    def _everywhere(self, what: str) -> str:
        return f"ansible all -i ansible/inventory/{self.site.env.name}.yml --become -m ansible.builtin.shell -a '{what}'"

    def _name(self, role: str) -> str:
        return named(self.site, role)
