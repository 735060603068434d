"""Which technology stands where, who is told of an alert, and where secrets are kept: what the infrastructure derives from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pilotis.contract.fields import Name, Record, UnitName, Url, listed

REGIONS = (
    *("af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2"),
    *("ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6"),
    *("ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2"),
    *("eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1"),
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
)
"""Of AWS, those open to every account."""

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def _region(value: str) -> str:
    if value not in REGIONS:
        near = difflib.get_close_matches(value, REGIONS, n=1)
        raise ValueError("is no region of AWS", f"Write it as {near[0] if near else 'eu-west-3'}.")
    return value


def _domain(value: str) -> str:
    if len(value) > 200 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})+", value):
        raise ValueError("is no domain name", "Write it in lower case, as example.com.")
    return value


def _host(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", value):
        raise ValueError("is no host name and no IPv4 address", "Write it as api-1.example.com or 10.0.0.5.")
    return value


def _image(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+", value):
        raise ValueError(
            "must be the repository of an image, with its registry and without tag or digest",
            "Write it as registry.example.com/pilotis.",
        )
    return value


def _mail(value: str) -> str:
    if not re.fullmatch(r"[^\s@,]{1,64}@[^\s@,]{1,253}", value):
        raise ValueError("is no mail address", "Write it as oncall@example.com.")
    return value


Region = Annotated[str, AfterValidator(_region)]
Domain = Annotated[str, AfterValidator(_domain)]
Host = Annotated[str, AfterValidator(_host)]
Image = Annotated[str, AfterValidator(_image)]
Mail = Annotated[str, AfterValidator(_mail)]
SecretsPath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9/_.-]+$")]
Severity = Literal["page", "ticket", "info"]
SEVERITIES: tuple[Severity, ...] = ("page", "ticket", "info")
"""Of alerts: somebody gets up; somebody looks within a working day; it is kept for whoever asks."""


class Infra(Record):
    """`[infra]`: which technology stands where."""

    api: Literal["fastapi", "django"] = Field(default="fastapi", description="Web framework of the API.")
    workers: Literal["celery"] = Field(default="celery", description="Who runs the batch plane.")
    db: Literal["postgres"] = Field(default="postgres", description="Store of documents and ledger.")
    vector: Literal["pgvector", "opensearch", "weaviate"] = Field(default="pgvector", description="Store of vectors.")
    cache: Literal["redis"] = Field(default="redis", description="Cache, queues and rate limits.")
    blobs: Literal["local", "s3"] = Field(default="local", description="Store of the original files.")
    trusted_hops: Annotated[int, Field(ge=0, le=10)] = Field(
        default=0, description="Proxies in front that write X-Forwarded-For; with 0 that header is not read."
    )
    cloud: Literal["aws"] = Field(default="aws", description="Whose infrastructure the rendered code asks for.")
    region: Region = Field(default="eu-west-3", description="Region of the cloud.")
    domain: Domain = Field(
        default="example.com", description="What the host names end in: NAME.example.com for prod, NAME-ENV.example.com else."
    )
    image: Image = Field(
        default="registry.example.com/pilotis",
        description="Repository of the service's image, without a tag: a release names it by digest.",
    )


class Secrets(Record):
    """`[envs.NAME.secrets]`: where the secrets of this env are kept."""

    provider: Literal["environment", "file", "vault", "aws"] = Field(
        default="environment",
        description="Environment variables, one file each in a folder, Vault's KV version 2, or AWS Secrets Manager.",
    )
    path: SecretsPath | None = Field(
        default=None,
        description="The folder, Vault's mount and path, or the prefix of the names; NAME/ENV when left out, below Vault's mount `secret`.",
    )
    max_age_days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=90, description="Days after which a secret has to be replaced."
    )


class Receiver(Record):
    """`[alerts.receivers.NAME]`: who is told of an alert. Addresses that are secret are read from a file, never written here."""

    kind: Literal["email", "slack", "pagerduty", "webhook"] = Field(description="How.")
    to: Mail | None = Field(default=None, description="Of email: the address.")
    channel: Annotated[str, Field(min_length=2, max_length=81, pattern=r"^#[\w-]+$")] | None = Field(
        default=None, description="Of Slack: the channel."
    )
    url: Url | None = Field(default=None, description="Of a webhook whose address is no secret.")
    severities: Annotated[tuple[Severity, ...], BeforeValidator(listed), Field(min_length=1)] = Field(
        default=SEVERITIES, description="What it is told: page, ticket, info."
    )
    bus: Annotated[tuple[UnitName, ...], BeforeValidator(listed)] = Field(
        default=(), description="Business units whose alerts alone it gets; all alerts when empty."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed: dict[str, Any] = {"email": self.to, "slack": self.channel}
        own = {"to": "email", "channel": "slack", "url": "webhook"}
        if self.kind in needed and needed[self.kind] is None:
            key = next(key for key, kind in own.items() if kind == self.kind)
            raise ValueError(f"{self.kind} needs {key}", f"Add {key}.")
        for key, kind in own.items():
            if kind != self.kind and getattr(self, key) is not None:
                raise ValueError(
                    f"{key} belongs to {kind}, and this is {self.kind}", f"Remove {key}, or write kind = {kind!r}."
                )
        return self


class Alerts(Record):
    """`[alerts]`: who is told of what, and how long measurements are kept."""

    receivers: Mapping[Name, Receiver] = Field(
        default_factory=dict, description="Who is told; nobody when empty, and `contract check` says so."
    )
    runbook_url: Url | None = Field(
        default=None, description="Where the runbook is published; https://DOMAIN/runbook when left out."
    )
    retention_days: Annotated[int, Field(ge=8, le=3660)] = Field(
        default=40, description="Days for which Prometheus keeps measurements; no alert looks further back."
    )
