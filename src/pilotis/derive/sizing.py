"""How much machine so many requests a second need, and what it costs a month.

The specification's three rows are the default and come back exactly; what lies between two of them takes the larger one, and what lies
beyond the last one takes its pods, workers and shards in proportion. With a measured capacity the vCPUs of the API follow from
Little's law instead: L = lambda W, requests a second times seconds of vCPU that each takes is the number of vCPUs that are busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Literal

from pilotis.errors import Invalid

CacheSize = Literal["S", "M", "L"]

CACHE_MIB: Mapping[CacheSize, int] = MappingProxyType({"S": 256, "M": 1024, "L": 4096})
"""What the answers, counters and queues of each class need at least; a node of a cloud may have more."""
HOURS_PER_MONTH = Decimal(730)
"""8760 hours of a year over twelve: what clouds bill a month as."""
LEAST_PODS = 2
"""One may end while the other serves."""
UTILISATION = Decimal("0.70")
"""The specification's saturation: no more of a vCPU is planned for than this."""
OTHERS = 2
"""Processes beside API and workers that hold connections: the scheduler and the control plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What serves `rps` requests a second: pods of the API with so many vCPUs each, workers of all queues together, the class of
    the cache, and shards of the index.
    """

    rps: Decimal
    api_pods: int
    api_vcpu: Decimal
    workers: int
    cache: CacheSize
    shards: int

    @property
    def vcpu(self) -> Decimal:
        """Of all pods of the API together."""
        return self.api_pods * self.api_vcpu

    @property
    def cache_mib(self) -> int:
        return CACHE_MIB[self.cache]

    def connections(self, pool_max: int) -> int:
        """The most that all processes hold on the database at once."""
        return (self.api_pods + self.workers + OTHERS) * pool_max


MATRIX: tuple[Size, ...] = (
    Size(rps=Decimal(10), api_pods=2, api_vcpu=Decimal("0.5"), workers=2, cache="S", shards=1),
    Size(rps=Decimal(50), api_pods=4, api_vcpu=Decimal(1), workers=6, cache="M", shards=2),
    Size(rps=Decimal(200), api_pods=8, api_vcpu=Decimal(2), workers=16, cache="L", shards=3),
)
"""The specification's scaling matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hourly:
    """What an hour of each thing costs in euros. These are assumptions to plan with, not a price list: an offer replaces them."""

    date: str = "2026-11"
    source: str = "assumption of Pilotis, in the order of a large cloud's on-demand prices in western Europe; not a price list"
    vcpu_eur: Decimal = Decimal("0.045")
    gib_eur: Decimal = Decimal("0.005")
    worker_vcpu: Decimal = Decimal(1)
    process_gib: Decimal = Decimal(1)
    """Of a pod of the API and of a worker."""
    database_eur: Mapping[CacheSize, Decimal] = field(
        default_factory=lambda: MappingProxyType({"S": Decimal("0.09"), "M": Decimal("0.27"), "L": Decimal("0.54")})
    )
    cache_eur: Mapping[CacheSize, Decimal] = field(
        default_factory=lambda: MappingProxyType({"S": Decimal("0.04"), "M": Decimal("0.17"), "L": Decimal("0.45")})
    )
    """Of one of the two: the broker and the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Euros of a month of 730 hours, to the cent."""

    compute_eur: Decimal
    database_eur: Decimal
    cache_eur: Decimal

    @property
    def total_eur(self) -> Decimal:
        return self.compute_eur + self.database_eur + self.cache_eur


def size(rps: Decimal) -> Size:
    """The first row that carries `rps`; beyond the last one, its pods, workers and shards in proportion."""
    for row in MATRIX:
        if rps <= row.rps:
            return replace(row, rps=rps)
    last = MATRIX[-1]
    share = rps / last.rps

    def more(count: int) -> int:
        return _up(count * share)

    return replace(last, rps=rps, api_pods=more(last.api_pods), workers=more(last.workers), shards=more(last.shards))


def measured(
    rps: Decimal, rps_per_vcpu: Decimal, utilisation: Decimal = UTILISATION, *, rps_per_pod: Decimal | None = None
) -> Size:
    """The row of `rps` with as many pods as a measured capacity asks for: rps / (rps_per_vcpu x utilisation) vCPUs, two pods at least.

    A pod is one process, whose event loop may be busy before its vCPUs are: `rps_per_pod` is the most that one serves, whatever
    its vCPUs, and of that too no more than `utilisation` is planned for. Raises Invalid for a capacity that is not above 0, or a
    utilisation that is not above 0 and at most 1.
    """
    if rps_per_vcpu <= 0 or (rps_per_pod is not None and rps_per_pod <= 0) or not 0 < utilisation <= 1:
        raise Invalid(
            f"{rps_per_vcpu} requests a second of a vCPU at {utilisation} of it cannot be planned with",
            remedy="give a capacity above 0, and slo.cpu above 0 and at most 1",
        )
    row = size(rps)
    a_pod = pod_rps(row, rps_per_vcpu, rps_per_pod)
    return replace(row, api_pods=max(LEAST_PODS, _up(rps / (a_pod * utilisation))))


def pod_rps(row: Size, rps_per_vcpu: Decimal, rps_per_pod: Decimal | None = None) -> Decimal:
    """Requests a second of one pod at its full use: by its vCPUs, and no more than one process serves."""
    by_vcpu = row.api_vcpu * rps_per_vcpu
    return by_vcpu if rps_per_pod is None else min(by_vcpu, rps_per_pod)


def bill(found: Size, *, replicated: bool = False, hourly: Hourly | None = None) -> Bill:
    """What a month of it costs; `replicated` stores stand twice. Models, traffic and storage are not in it."""
    at, copies = hourly or Hourly(), 2 if replicated else 1
    vcpu = found.vcpu + found.workers * at.worker_vcpu
    gib = (found.api_pods + found.workers) * at.process_gib

    def month(eur_per_hour: Decimal) -> Decimal:
        return (eur_per_hour * HOURS_PER_MONTH).quantize(Decimal("0.01"), ROUND_HALF_UP)

    return Bill(
        compute_eur=month(vcpu * at.vcpu_eur + gib * at.gib_eur),
        database_eur=month(copies * at.database_eur[found.cache]),
        cache_eur=month(2 * copies * at.cache_eur[found.cache]),
    )


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))
