"""Which machines of AWS an env takes, from its row of the sizing matrix and the processes it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING

from pilotis.derive.sizing import CacheSize
from pilotis.derive.workload import roles

if TYPE_CHECKING:
    from pilotis.derive.site import Site

ZONES = 3
FEWER_ZONES: Mapping[str, int] = MappingProxyType({"us-west-1": 2})
"""Regions that give an account fewer zones."""

CACHE: Mapping[CacheSize, str] = MappingProxyType(
    {"S": "cache.t4g.small", "M": "cache.m6g.large", "L": "cache.r6g.xlarge"}  # 1.4, 6.4 and 26 GiB
)
BROKER: Mapping[CacheSize, str] = MappingProxyType(
    {
        "S": "cache.t4g.micro",
        "M": "cache.t4g.small",
        "L": "cache.t4g.medium",
    }  # 0.5, 1.4 and 3.1 GiB: a nudge is a few hundred bytes
)
INDEX: Mapping[CacheSize, str] = MappingProxyType({"S": "t3.medium.search", "M": "r6g.large.search", "L": "r6g.xlarge.search"})
INDEX_GIB: Mapping[CacheSize, int] = MappingProxyType({"S": 50, "M": 100, "L": 300})
"""Of the disk of each node."""
DATABASE_GIB: Mapping[CacheSize, int] = MappingProxyType({"S": 50, "M": 200, "L": 500})
GROWTH = 5
"""How many times its first size a disk may grow by itself."""

_DATABASE: tuple[tuple[str, int], ...] = (
    ("db.t4g.medium", 4),
    ("db.t4g.large", 8),
    ("db.r6g.large", 16),
    ("db.r6g.xlarge", 32),
    ("db.r6g.2xlarge", 64),
    ("db.r6g.4xlarge", 128),
)
"""Classes with their GiB. Vectors are searched in memory, hence those with much of it."""
_LEAST: Mapping[CacheSize, str] = MappingProxyType({"S": "db.t4g.medium", "M": "db.r6g.large", "L": "db.r6g.xlarge"})
_BYTES_A_CONNECTION = 9_531_392
MOST_CONNECTIONS = 5000
"""RDS sets max_connections to the memory divided by the one, and to the other at most."""

_NODES: tuple[tuple[str, int, int], ...] = (("m6i.large", 2, 8), ("m6i.xlarge", 4, 16), ("m6i.2xlarge", 8, 32))
"""Machines of the cluster, their vCPU and GiB. Not Graviton: the image is built for x86."""
_API_A_NODE = 4
"""A node has the vCPU of so many API pods, so that what it cannot fill is little."""
_TAKEN_VCPU, _TAKEN_MIB = Decimal("0.3"), 1536
"""Of each node by the kubelet and by what runs on every node."""
_BESIDE_VCPU, _BESIDE_MIB = Decimal("1.5"), 4096
"""Of the cluster by what stands beside the service: gateway, scaler, rollouts, secrets, measurements, names."""
_SPARE = Decimal("1.1")
"""Pods do not fill nodes to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The machines of the cluster: how many always, and how many when all has grown."""

    kind: str
    least: int
    most: int


def zones(site: Site) -> int:
    return FEWER_ZONES.get(site.infra.region, ZONES)


def connections(site: Site) -> int:
    """To the database, when every process has grown and filled its pool."""
    return site.env.pool_max * sum(role.most or role.replicas for role in roles(site))


def database(site: Site) -> str:
    """The class of the env's row, or the first above it that takes all connections; the last where none does."""
    least = next(gib for name, gib in _DATABASE if name == _LEAST[site.size.cache])
    wanted = connections(site)
    enough = (
        name for name, gib in _DATABASE if gib >= least and min(MOST_CONNECTIONS, (gib << 30) // _BYTES_A_CONNECTION) >= wanted
    )
    return next(enough, _DATABASE[-1][0])


def nodes(site: Site) -> Nodes:
    """A node in every zone where prod is, two else; more where the processes need them. A release has two APIs side by side."""
    kind, vcpu, gib = next((row for row in _NODES if row[1] >= _API_A_NODE * site.size.api_vcpu), _NODES[-1])

    def count(counts: Mapping[str, int]) -> int:
        all_vcpu = sum((role.vcpu * counts[role.name] for role in roles(site)), _BESIDE_VCPU)
        all_mib = sum(role.memory_mib * counts[role.name] for role in roles(site)) + _BESIDE_MIB
        return max(ceil(_SPARE * all_vcpu / (vcpu - _TAKEN_VCPU)), ceil(_SPARE * all_mib / (gib * 1024 - _TAKEN_MIB)))

    least = max(zones(site) if site.is_prod else 2, count({role.name: role.replicas for role in roles(site)}))
    grown = {role.name: (2 if role.name == "api" else 1) * (role.most or role.replicas) for role in roles(site)}
    return Nodes(kind=kind, least=least, most=max(least + 1, count(grown)))
