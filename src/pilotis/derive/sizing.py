"""How much machine so many requests a second need.

The specification's three rows are the default and come back exactly; what lies between them takes the next row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Literal

CacheSize = Literal["S", "M", "L"]


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


MATRIX: tuple[Size, ...] = (
    Size(rps=Decimal(10), api_pods=2, api_vcpu=Decimal("0.5"), workers=2, cache="S", shards=1),
    Size(rps=Decimal(50), api_pods=4, api_vcpu=Decimal(1), workers=6, cache="M", shards=2),
    Size(rps=Decimal(200), api_pods=8, api_vcpu=Decimal(2), workers=16, cache="L", shards=3),
)
"""The specification's scaling matrix."""


def size(rps: Decimal) -> Size:
    """The first row that carries `rps`; beyond the last one, its pods, workers and shards in proportion."""
    for row in MATRIX:
        if rps <= row.rps:
            return replace(row, rps=rps)
    last = MATRIX[-1]
    share = rps / last.rps

    def more(count: int) -> int:
        return int((count * share).to_integral_value(ROUND_CEILING))

    return replace(last, rps=rps, api_pods=more(last.api_pods), workers=more(last.workers), shards=more(last.shards))
