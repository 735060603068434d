"""What a histogram of latency tells: quantiles, shares, and whether one arm is slower than the other.

Nothing is known of a request but its bucket. Within a bucket, times are taken to be spread evenly on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from pilotis.control.sequential import exceeds, harmed, mean
from pilotis.ports.releases import LATENCY_BOUNDS_MS

Counts = Sequence[int]
"""Requests by bucket of `LATENCY_BOUNDS_MS`."""
SLOW = 0.05
"""The part of the requests that are slower than P95."""
RAREST, COMMONEST = 0.005, 0.6
"""Of both arms together, the part that must be slower than a bound for the arms to be compared there."""


def quantile_ms(counts: Counts, share: float) -> float | None:
    """The time within which this share is answered; None where that lies beyond the last bound, or nothing was answered."""
    wanted, below = share * sum(counts), 0
    if wanted == 0:
        return None
    for number, (count, bound) in enumerate(zip(counts, LATENCY_BOUNDS_MS, strict=False)):
        if below + count >= wanted:
            low = _low_ms(number)
            return low * math.exp(math.log(bound / low) * (wanted - below) / count)
        below += count
    return None


def ratio(ms: float | None, other_ms: float | None) -> float:
    """How many times as long; what lies beyond the last bound counts as that bound, so that the ratio is rather too small."""
    most = float(LATENCY_BOUNDS_MS[-1])
    return (ms or most) / (other_ms or most)


def slower(counts: Counts, limit_ms: float) -> float:
    """About how many took longer than `limit_ms`; what lies beyond the last bound counts as longer than any."""
    found = float(counts[-1])
    for number, (count, bound) in enumerate(zip(counts, LATENCY_BOUNDS_MS, strict=False)):
        low = _low_ms(number)
        if low >= limit_ms:
            found += count
        elif bound > limit_ms:
            found += count * math.log(bound / limit_ms) / math.log(bound / low)
    return found


def surely_slower(counts: Counts, limit_ms: float) -> int:
    """How many took longer than `limit_ms` wherever in their bucket they lie."""
    return sum(count for number, count in enumerate(counts) if number and LATENCY_BOUNDS_MS[number - 1] >= limit_ms)


def slower_than(counts: Counts, other: Counts) -> float:
    """How strongly it speaks for the first arm being slower, as `sequential.exceeds` does.

    The mean, over the bounds, of the evidence that the first arm has more than its share of what is slower than that bound. As a mean
    of such ratios it is one itself, however much the bounds have to do with each other.
    """
    mine, both = sum(counts), sum(counts) + sum(other)
    if not 0 < mine < both:
        return 0.0
    tails = ((hits, hits + others) for hits, others in zip(_tails(counts), _tails(other), strict=True))
    found = [exceeds(hits, events, mine / both) for hits, events in tails if RAREST <= events / both <= COMMONEST]
    return mean(found) if found else 0.0


def slowed(counts: Counts, other: Counts, factor: float) -> float:
    """How much likelier the first arm's slow requests are where its P95 is `factor` times the other's, than where it is the same.

    Those count as slow that take longer than what lies halfway (on a logarithmic scale) between the one P95 and the other.
    """
    total, mine, p95 = sum(other), sum(counts), quantile_ms(other, 1 - SLOW)
    if not total or not mine:
        return 0.0
    limit = min(LATENCY_BOUNDS_MS[-1], (p95 or LATENCY_BOUNDS_MS[-1]) * math.sqrt(factor))
    usual = (slower(other, limit) + 0.5) / (total + 1)
    harm = min((slower(other, limit / factor) + 0.5) / (total + 1), 0.999)
    return harmed(slower(counts, limit), mine, usual, harm) if harm > usual else 0.0


def _tails(counts: Counts) -> list[int]:
    """How many are slower than each bound."""
    total = sum(counts)
    return [total - below for below in accumulate(counts[:-1])]


def _low_ms(number: int) -> float:
    return LATENCY_BOUNDS_MS[number - 1] if number else LATENCY_BOUNDS_MS[0] / 10
