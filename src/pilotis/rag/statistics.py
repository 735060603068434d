"""How far a figure can be trusted, and whether two runs over the same questions differ. Seeded: the same figures, the same verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES, FLIPS = 2_000, 10_000
EXACT_UP_TO = 12
"""With so many differences or fewer, every assignment of signs is tried."""
AT_ONCE = 2_000_000
"""Numbers drawn at once: bounds the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure over `n` questions, and where it would lie in 95 of 100 such samples of questions."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """What changed from one run to another, question by question."""

    effect: float
    """Mean of after - before."""
    low: float
    high: float
    p: float
    """How likely a difference at least so large is where the runs are equally good; two-sided."""
    n: int
    up: int
    """Questions whose figure is higher after."""
    down: int


def bootstrap(
    values: Sequence[float], *, share: float | None = None, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """The mean, or with `share` that quantile, with its percentile bootstrap interval over questions.

    Where all values are alike, so are both bounds: that is no certainty, see `enough_for_share`. Raises ValueError for no values.
    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    given = _checked(values)
    drawn = np.concatenate([_statistic(given[places], share) for places in _draws(given.size, resamples, seed)])
    low, high = _bounds(drawn, level)
    return Interval(value=float(_statistic(given[None, :], share)[0]), low=low, high=high, n=given.size)


def paired(before: Sequence[float], after: Sequence[float], *, level: float = LEVEL, seed: int = 0) -> Paired:
    """The mean difference, its percentile bootstrap interval, and the p of a randomisation test over signs.

    `before` and `after` hold one figure a question, in the same order. Raises ValueError for none, or for different lengths.
    Sources: Smucker, Allan and Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation"
    (2007); for p never being 0: Phipson and Smyth, "Permutation p-values should never be zero" (2010).
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} figures before and {len(after)} after")
    differences = _checked(after) - _checked(before)
    moved = bootstrap([float(one) for one in differences], level=level, seed=seed)
    return Paired(
        effect=moved.value,
        low=moved.low,
        high=moved.high,
        p=_sign_test(differences[differences != 0], seed),
        n=moved.n,
        up=int((differences > 0).sum()),
        down=int((differences < 0).sum()),
    )


def enough_for_share(limit: float, *, level: float = LEVEL) -> int:
    """How many questions it takes before even a perfect score shows, at that level, that a share is at least `limit`.

    limit ** n <= 1 - level; for 0.9 that is 29. The same number shows that the largest of `n` values lies above the quantile `limit`.
    Source: the rule of three, exactly; Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?" (1983).
    """
    if limit <= 0:
        return 1
    if limit >= 1:
        raise ValueError("no number of questions shows that a share is 1")
    return math.ceil(math.log(1 - level) / math.log(limit))


def _checked(values: Sequence[float]) -> Values:
    given = np.asarray(values, dtype=np.float64)
    if given.size == 0:
        raise ValueError("there are no values")
    if not np.isfinite(given).all():
        raise ValueError("a value is not a finite number")
    return given


def _statistic(rows: Values, share: float | None) -> Values:
    found: Values = rows.mean(axis=1) if share is None else np.quantile(rows, share, axis=1)
    return found


def _draws(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    random, left = np.random.default_rng(seed), resamples
    while left:
        rows = min(left, max(1, AT_ONCE // n))
        yield random.integers(0, n, size=(rows, n))
        left -= rows


def _bounds(drawn: Values, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sign_test(differences: Values, seed: int) -> float:
    """Under the null hypothesis each difference is as likely the other way round. Those that are 0 say nothing."""
    n = differences.size
    if n == 0:
        return 1.0
    seen = abs(differences.sum()) - 1e-9
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ differences) >= seen).mean())
    random, left, as_large = np.random.default_rng(seed), FLIPS, 0
    while left:
        rows = min(left, max(1, AT_ONCE // n))
        signs = 1 - 2 * random.integers(0, 2, size=(rows, n), dtype=np.int8)
        as_large += int((np.abs(signs @ differences) >= seen).sum())
        left -= rows
    return (as_large + 1) / (FLIPS + 1)
