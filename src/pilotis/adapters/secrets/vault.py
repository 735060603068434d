"""Secrets in Vault's KV engine, version 2: at MOUNT/PATH/NAME each, in the field `value`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pilotis.errors import SetupError, Transient
from pilotis.ports.secrets import Secret

FIELD = "value"
TIMEOUT_S = 10


class VaultSecrets:
    """See `ports.secrets.Secrets`. A secret is as old as its latest version; one whose latest version was deleted is not there."""

    def __init__(self, path: str, *, addr: str | None, token: str | None = None, namespace: str | None = None) -> None:
        """Without `token` the one that `vault login` left in the home folder is taken. Raises SetupError."""
        try:
            import hvac
        except ImportError as error:
            raise SetupError("secrets in Vault need hvac, which is missing", remedy="pip install 'pilotis[vault]'") from error
        if not addr:
            raise SetupError(
                f"secrets are in Vault, at {path}, and VAULT_ADDR is not set", remedy="export VAULT_ADDR=https://…:8200"
            )
        self._addr, (self._mount, _, self._path) = addr, path.strip("/").partition("/")
        if not self._path:
            raise SetupError(
                f"{path!r} names a mount of Vault and no path in it", remedy=f'write path = "{path}/NAME" in the contract'
            )
        self._client: Any = hvac.Client(url=addr, token=token, namespace=namespace, timeout=TIMEOUT_S, strict_http=False)
        if not self._client.token:
            raise SetupError(f"there is no token for Vault at {addr}", remedy="export VAULT_TOKEN=…, or: vault login")

    def place(self, name: str) -> str:
        return f"{self._mount}/{self._path}/{name} in Vault at {self._addr}"

    def read(self, names: Collection[str]) -> Mapping[str, Secret]:
        found = {name: self._read(name) for name in names}
        return {name: secret for name, secret in found.items() if secret}

    def _read(self, name: str) -> Secret | None:
        from hvac.exceptions import InvalidPath

        place = self.place(name)
        try:
            with self._translated(place):
                told = self._client.secrets.kv.v2.read_secret_version(
                    f"{self._path}/{name}", mount_point=self._mount, raise_on_deleted_version=True
                )
                fields, at = told["data"]["data"], told["data"]["metadata"]["created_time"]
        except InvalidPath:
            return None
        value = fields.get(FIELD)
        if not isinstance(value, str) or not value.strip():
            raise SetupError(
                f"{place} has no text in its field `{FIELD}`",
                remedy=f"vault kv put -mount={self._mount} {self._path}/{name} {FIELD}=-",
            )
        return Secret(value=value, at=datetime.fromisoformat(at).astimezone(UTC))

    @contextmanager
    def _translated(self, place: str) -> Iterator[None]:
        """Vault's own words are not repeated: what a proxy or a plugin answers may hold what it was sent."""
        from hvac import exceptions as vault
        from requests.exceptions import RequestException

        try:
            yield
        except vault.InvalidPath:
            raise
        except (vault.Forbidden, vault.Unauthorized) as error:
            raise SetupError(
                f"Vault refuses to show {place}", remedy="log in again, or let this token's policy read it"
            ) from error
        except vault.InvalidRequest as error:
            raise SetupError(f"Vault cannot read {place}", remedy="check that the mount is a KV engine of version 2") from error
        except (vault.VaultError, RequestException) as error:
            raise Transient(
                f"Vault at {self._addr} does not answer: {type(error).__name__}",
                remedy="is it there, and unsealed?",
                retry_after_s=5,
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise SetupError(
                f"{place} is no secret of a KV engine of version 2", remedy="check path in the contract"
            ) from error
