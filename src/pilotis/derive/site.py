"""Where an env stands: the names, addresses and sizes that every rendered file shares."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from pilotis.contract.infra import Alerts, Infra, Secrets
from pilotis.contract.presets import MATRIX
from pilotis.derive.sizing import Size, size
from pilotis.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotis.contract.model import Contract
    from pilotis.derive.plan import Env, Plan

MOST_NAME = 32
"""Of NAME-ENV: a cache of AWS takes 40 characters, and the longest of our endings has 8."""
_BLOCKS: Mapping[str, int] = {"dev": 10, "staging": 20, "prod": 30}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """One env with everything that its infrastructure is called, where it is and how large."""

    env: Env
    name: str
    """NAME-ENV: a DNS label, and the beginning of whatever is made for this env."""
    host: str
    """Where its API answers."""
    is_prod: bool
    cidr: str
    """Of its private network; of no other env's, and the same whatever envs come or go beside it."""
    size: Size
    infra: Infra
    alerts: Alerts
    secrets: Secrets
    """With `path` filled in."""
    hosts: tuple[str, ...]
    runbook_url: str


def sites(plan: Plan) -> dict[str, Site]:
    """Every env's site. Raises ContractError where a name makes no valid name of a resource, or two envs get one network."""
    found = {name: _site(plan, env) for name, env in plan.envs.items()}
    by_cidr: dict[str, str] = {}
    for name, site in found.items():
        if (other := by_cidr.setdefault(site.cidr, name)) != name:
            raise ContractError(
                f"The envs {other!r} and {name!r} would get the same private network, {site.cidr}.",
                remedy="Rename one of them: the network follows from the name.",
            )
    return found


def _site(plan: Plan, env: Env) -> Site:
    contract = plan.contract
    section = contract.envs[env.name]
    preset = MATRIX.get(env.name, MATRIX["dev"])
    name = resource(contract.name, env.name)
    infra, alerts = contract.infra, contract.alerts
    is_prod = env.name == "prod"
    return Site(
        env=env,
        name=name,
        host=f"{contract.name if is_prod else name}.{infra.domain}",
        is_prod=is_prod,
        cidr=f"10.{block(env.name)}.0.0/16",
        size=size(section.rps or preset.rps or Decimal(10)),
        infra=infra,
        alerts=alerts,
        secrets=kept(contract, env.name),
        hosts=section.hosts or (),
        runbook_url=(alerts.runbook_url or f"https://{infra.domain}/runbook").rstrip("/"),
    )


def kept(contract: Contract, env: str) -> Secrets:
    """Where the secrets of an env are kept, with the path: NAME/ENV where none is given, in Vault below the mount `secret`.

    Each secret is there by itself, as PATH/NAME, where NAME is that of its environment variable.
    """
    section = contract.envs.get(env)
    secrets = section.secrets if section and section.secrets else Secrets()
    path = f"{contract.name}/{env}"
    return secrets.model_copy(update={"path": secrets.path or (f"secret/{path}" if secrets.provider == "vault" else path)})


def resource(name: str, env: str) -> str:
    """NAME-ENV. Raises ContractError where it is no DNS label, or too long for the shortest name that a resource may have."""
    joined = f"{name}-{env}"
    if len(joined) > MOST_NAME:
        raise ContractError(
            f'name = "{name}" and the env {env!r} make {joined!r}, which has {len(joined)} characters; resources take {MOST_NAME}.',
            remedy="Shorten `name`, or the name of the env.",
        )
    if not re.fullmatch(r"[a-z](-?[a-z0-9])*", joined):
        raise ContractError(
            f'name = "{name}" and the env {env!r} make {joined!r}, which cannot name a resource: a hyphen ends it or follows another.',
            remedy="Write `name` and the envs without a hyphen at the end and without two together.",
        )
    return joined


def block(env: str) -> int:
    """The second number of the env's network. Derived from its name alone: one that came from its place in the contract would move,
    and its network be destroyed and made anew, as another env is added before it.
    """
    return _BLOCKS.get(env) or 40 + hashlib.sha256(env.encode()).digest()[0] % 200
