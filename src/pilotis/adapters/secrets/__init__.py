"""Keepers of secrets: the environment, files in a folder, Vault, AWS Secrets Manager."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pilotis.adapters.secrets.environment import EnvironmentSecrets
from pilotis.derive.site import kept
from pilotis.derive.workload import SERVERS
from pilotis.derive.workload import secrets as names_of
from pilotis.errors import ContractError, SetupError

if TYPE_CHECKING:
    from pilotis.contract.model import Contract
    from pilotis.ports.secrets import Secrets

__all__ = ["complete", "open_secrets"]


def open_secrets(contract: Contract, env: str, environ: Mapping[str, str], *, base: Path) -> Secrets:
    """Who keeps the secrets of an env. A folder with a relative path begins at `base`. Connects to nothing.

    Raises SetupError where the client or the credentials of the keeper are missing.
    """
    where = kept(contract, env)
    path = where.path or ""
    if where.provider == "file":
        from pilotis.adapters.secrets.folder import FolderSecrets

        return FolderSecrets(base / path)
    if where.provider == "vault":
        from pilotis.adapters.secrets.vault import VaultSecrets

        told = {name: environ.get(f"VAULT_{name.upper()}") or None for name in ("addr", "token", "namespace")}
        return VaultSecrets(path, **told)
    if where.provider == "aws":
        from pilotis.adapters.secrets.aws import AwsSecrets

        return AwsSecrets(path, region=contract.infra.region)
    return EnvironmentSecrets(environ)


def complete(contract: Contract, env: str, environ: Mapping[str, str], *, base: Path) -> dict[str, str]:
    """The secrets of an env that are not in the environment, from where the contract says that they are kept.

    Whoever keeps secrets elsewhere has servers elsewhere: their addresses have to be in one of the two places, or a process would start
    servers of its own. Raises SetupError, Transient.
    """
    from pilotis.derive import plan

    if kept(contract, env).provider == "environment":
        return {}
    names: tuple[str, ...] = SERVERS
    with suppress(ContractError):  # whoever derives the plan is told
        names = names_of(plan.derive(contract).env(env))
    missing = [name for name in names if not environ.get(name)]
    if not missing:
        return {}
    keeper = open_secrets(contract, env, environ, base=base)
    found = {name: secret.value for name, secret in keeper.read(missing).items()}
    for name in ("PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL"):
        if name in missing and name not in found:
            raise SetupError(
                f"{name} is not in the environment, and there is no {keeper.place(name)}",
                remedy=f'put it there or export it; for the embedded servers write provider = "environment" in [envs.{env}.secrets]',
            )
    return found
