"""A source of documents as the contract has it, with every value resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pilotis.contract.sources import SourceSection

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What there is to know before a source is opened."""

    name: str
    kind: Literal["folder", "s3", "web"]
    bu: str = "default"
    collection: str = "default"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    every_s: float | None = None
    """How often the workers synchronise it; None where they do not."""
    envs: tuple[str, ...] | None = None
    max_files: int = 100_000
    max_bytes: int = 10_240 << 20
    max_s: float = 3600.0
    path: str = ""
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    url: str = ""
    hosts: tuple[str, ...] = ()
    private: bool = False
    """Whether addresses of private networks may be asked."""

    @property
    def address(self) -> str:
        """Where it is, for people."""
        if self.kind == "s3":
            return f"s3://{self.bucket}/{self.prefix}"
        return self.path or self.url


def origin(name: str, section: SourceSection) -> Origin:
    """The one mapping from file to `Origin`."""
    every = section.every
    return Origin(
        name=name,
        kind=section.kind,
        bu=section.bu,
        collection=section.collection,
        include=section.include,
        exclude=section.exclude,
        metadata=dict(section.metadata),
        every_s=float(int(every[:-1]) * _SECONDS[every[-1]]) if every else None,
        envs=section.envs,
        max_files=section.max_files,
        max_bytes=section.max_mib << 20,
        max_s=float(section.max_s),
        path=section.path or "",
        bucket=section.bucket or "",
        prefix=section.prefix,
        endpoint_url=section.endpoint_url,
        region=section.region,
        url=section.url or "",
        hosts=section.hosts,
        private=section.private,
    )
