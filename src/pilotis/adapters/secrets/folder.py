"""Secrets in files, one each, named as the environment variable would be: what Docker, Kubernetes, systemd and Vault's agent write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pilotis.errors import SetupError
from pilotis.ports.secrets import Secret

MOST_BYTES = 64 * 1024
"""What is larger is no password, no key and no address."""


class FolderSecrets:
    """See `ports.secrets.Secrets`. A secret is as old as its file; newlines at its end are none of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, name: str) -> str:
        return f"file {self._folder / name}"

    def read(self, names: Collection[str]) -> Mapping[str, Secret]:
        found = {name: self._read(name) for name in names}
        return {name: secret for name, secret in found.items() if secret}

    def _read(self, name: str) -> Secret | None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            value = content.decode().rstrip("\r\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SetupError(
                f"{self.place(name)} cannot be read: {error.strerror}", remedy="let this account read it"
            ) from error
        except UnicodeDecodeError as error:
            raise SetupError(f"{self.place(name)} is no text", remedy="write the secret itself into it, as UTF-8") from error
        if not value.strip() or len(content) > MOST_BYTES:
            what = "is empty" if len(content) <= MOST_BYTES else f"has more than {MOST_BYTES:,} bytes"
            raise SetupError(f"{self.place(name)} {what}", remedy="write the secret itself into it")
        return Secret(value=value, at=at)
