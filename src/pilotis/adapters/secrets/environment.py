"""Secrets in environment variables."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pilotis.ports.secrets import Secret


class EnvironmentSecrets:
    """See `ports.secrets.Secrets`. One that is empty is not there; nobody knows how old one is."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def place(self, name: str) -> str:
        return f"{name} in the environment"

    def read(self, names: Collection[str]) -> Mapping[str, Secret]:
        return {name: Secret(value=value, at=None) for name in names if (value := self._environ.get(name, "").strip())}
