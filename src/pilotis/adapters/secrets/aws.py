"""Secrets in AWS Secrets Manager, which decrypts them with the KMS key they were encrypted with: PREFIX/NAME, as plain text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC

from pilotis.adapters import aws
from pilotis.errors import NotFound, SetupError
from pilotis.ports.secrets import Secret


class AwsSecrets:
    """See `ports.secrets.Secrets`. A secret is as old as its current version."""

    def __init__(self, prefix: str, *, region: str) -> None:
        """`region` is for where boto3 finds none."""
        self._prefix = prefix.rstrip("/")
        self._client = aws.client("secretsmanager", wants="secrets in AWS need", region=region)

    def place(self, name: str) -> str:
        return f"{self._prefix}/{name} in AWS Secrets Manager"

    def read(self, names: Collection[str]) -> Mapping[str, Secret]:
        found = {name: self._read(name) for name in names}
        return {name: secret for name, secret in found.items() if secret}

    def _read(self, name: str) -> Secret | None:
        place = self.place(name)
        try:
            with aws.translated(place, rights="do secretsmanager:GetSecretValue, and kms:Decrypt with its KMS key"):
                told = self._client.get_secret_value(SecretId=f"{self._prefix}/{name}")
        except NotFound:
            return None
        value = told.get("SecretString", "")
        if not value.strip():
            raise SetupError(f"{place} holds no text", remedy="store the secret itself as its plain text")
        return Secret(value=value, at=told["CreatedDate"].astimezone(UTC))
