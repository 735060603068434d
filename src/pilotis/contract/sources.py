"""Where documents come from by themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pilotis.contract.fields import Name, Record, UnitName, listed

_NEEDS = {"folder": "path", "s3": "bucket", "web": "url"}
_OWN = {"folder": ("path",), "s3": ("bucket", "prefix", "endpoint_url", "region"), "web": ("url", "hosts", "private")}
"""What only a source of that kind has."""


def _interval(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}[mhdw]", value):
        raise ValueError("is not a duration", "Write it as 15m, 6h, 1d or 1w.")
    return value


def _site(value: str) -> str:
    """Unlike a model's address it may have a query, and no key ever goes there."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is no address: {error}", "Write it as https://docs.example.org/sitemap.xml.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", value):
        raise ValueError("must be an http or https address", "Write it as https://docs.example.org/sitemap.xml.")
    if parts.username or parts.password:
        raise ValueError("must carry no user and no password", "Name a server that needs neither.")
    return value


def _collection(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be printable and not blank", "Write the collection as questions name it.")
    return value


Every = Annotated[str, AfterValidator(_interval)]
Site = Annotated[str, AfterValidator(_site)]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], BeforeValidator(listed)]
Bucket = Annotated[str, Field(min_length=3, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]+$")]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9._-]+$")]


class SourceSection(Record):
    """`[sources.NAME]`: a folder, a bucket or a web site whose documents `pilotis sync` keeps in step with."""

    kind: Literal["folder", "s3", "web"] = Field(description="What it is.")
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="Of a folder: where it is; beside the contract, unless it begins with a slash."
    )
    bucket: Bucket | None = Field(default=None, description="Of S3: the bucket.")
    prefix: Annotated[str, Field(max_length=1024)] = Field(
        default="", description="Of S3: what the keys begin with; documents are named without its folders."
    )
    endpoint_url: Site | None = Field(
        default=None, description="Of S3: address of another server than Amazon's, such as MinIO."
    )
    region: Annotated[str, Field(min_length=1, max_length=60)] | None = Field(
        default=None, description="Of S3: the bucket's region; what boto3 finds when left out."
    )
    url: Site | None = Field(
        default=None,
        description="Of a web site: its sitemap (.xml or .xml.gz), or any address of it: its robots.txt then names it.",
    )
    hosts: Annotated[tuple[Host, ...], BeforeValidator(listed)] = Field(
        default=(), description="Of a web site: further hosts whose pages are taken; without them only the one of `url`."
    )
    private: bool = Field(
        default=False, description="Of a web site: whether it may lie in a private network or on this machine."
    )
    bu: UnitName = Field(default="default", description="The business unit that gets the documents.")
    collection: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_collection)] = Field(
        default="default", description="The collection they go to."
    )
    include: Patterns = Field(default=(), description="Only names that match one of these, such as `*.md`; all when left out.")
    exclude: Patterns = Field(default=(), description="No names that match one of these, such as `drafts/*`.")
    metadata: Mapping[Annotated[str, Field(min_length=1, max_length=100)], Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=dict, description="What each document is marked with, to filter by."
    )
    every: Every | None = Field(
        default=None, description="How often the workers synchronise it: 15m, 6h, 1d; only `pilotis sync` does when left out."
    )
    envs: Annotated[tuple[Name, ...], BeforeValidator(listed)] | None = Field(
        default=None, description="The envs that have it; all when left out."
    )
    max_files: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="Most files or pages that are listed; with more nothing is deleted."
    )
    max_mib: Annotated[int, Field(ge=1, le=10_485_760)] = Field(
        default=10_240, description="Most that one run reads; the next one goes on."
    )
    max_s: Annotated[int, Field(ge=10, le=604_800)] = Field(
        default=3600, description="Longest that one run lasts; the next one goes on."
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        need = _NEEDS[self.kind]
        if getattr(self, need) is None:
            raise ValueError(f'has kind = "{self.kind}" and no {need}', f"Add {need}.")
        for kind, keys in _OWN.items():
            foreign = next((key for key in keys if key in self.model_fields_set), None)
            if kind != self.kind and foreign:
                raise ValueError(f'has kind = "{self.kind}" and {foreign}, which only "{kind}" has', f"Remove {foreign}.")
        return self


def none_missing(sources: Mapping[str, SourceSection], envs: Mapping[str, Any]) -> None:
    """Raises ValueError for a source of an env that the contract does not have."""
    for name, source in sources.items():
        for env in source.envs or ():
            if env not in envs:
                raise ValueError(f"sources.{name}.envs names {env}, which is no env here", f"Use one of: {', '.join(envs)}.")
