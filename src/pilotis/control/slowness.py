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
TAIL = 0.15
"""Bounds that more of stable's requests exceed say little of its slowest ones."""
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
            return low * (bound / low) ** ((wanted - below) / count)
        below += count
    return None


def ratio(ms: float | None, other_ms: float | None) -> float:
    """How many times as long; what lies beyond the last bound counts as that bound, so that the ratio is rather too small."""
    most = float(LATENCY_BOUNDS_MS[-1])
    return (ms or most) / (other_ms or most)


def slower(counts: Counts, limit_ms: float) -> float:
    """How many took longer than `limit_ms`, which is at most the last bound."""
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
    """How much likelier the first arm's slow requests are where it takes `factor` times as long as the other, than where it does not.

    Looked at where these two differ the most, among the bounds that few of the other arm's requests exceed.
    """
    total, mine = sum(other), sum(counts)
    if not total or not mine:
        return 0.0
    best, chosen = 0.0, 0.0
    for beyond, hits, bound in zip(_tails(other), _tails(counts), LATENCY_BOUNDS_MS, strict=False):
        usual = (beyond + 0.5) / (total + 1)
        harm = min((slower(other, bound / factor) + 0.5) / (total + 1), 0.999)
        if beyond > TAIL * total or harm <= usual:
            continue
        told = (1 - usual) * math.log((1 - usual) / (1 - harm)) + usual * math.log(usual / harm)
        if told > best:
            best, chosen = told, harmed(hits, mine, usual, harm)
    return chosen


def _tails(counts: Counts) -> list[int]:
    """How many are slower than each bound."""
    total = sum(counts)
    return [total - below for below in accumulate(counts[:-1])]


def _low_ms(number: int) -> float:
    return LATENCY_BOUNDS_MS[number - 1] if number else LATENCY_BOUNDS_MS[0] / 10
