"""Evidence that may be looked at as often as one likes: likelihood ratios, not p-values.

Each figure is the natural logarithm of a likelihood ratio of "worse" over "not worse". Where it is not worse, the ratio is a
supermartingale of mean 1 at most, so by Ville's inequality the chance that it ever exceeds c is at most 1 / c, however often it is looked
at. That the alternatives are several, with equal weights, keeps it so. In the other direction Wald's lower bound holds: where the harm is
as large as stated, the chance that the ratio of harm over none ever falls under b is at most b.

Sources: Wald, "Sequential Tests of Statistical Hypotheses" (1945); Robbins, "Statistical Methods Related to the Law of the Iterated
Logarithm" (1970); Johari, Pekelis and Walsh, "Always Valid Inference" (2015); Lindon and Malek, "Anytime-Valid Inference for Multinomial
Count Data" (2022); for releases: Lindon, Sanden and Shirikian, "Rapid Regression Detection in Software Deployments through Sequential
Testing" (2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

ODDS = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""By how much the odds of a hit may have risen."""
RISES = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
"""By how much a mean may have risen, in parts of what it is held against."""
_STEPS = 60
"""Halvings of an interval of probability: more than a float can tell apart."""
_NEGLIGIBLE = 1e-12


def exceeds(hits: float, trials: int, share: float) -> float:
    """How strongly it speaks for more than `share` of the `trials` being hits; exact for independent trials, at any sample size.

    With the events of two arms as trials, those of the first as hits and its share of the traffic as `share`, this is the conditional
    comparison of two rates. Given the realised share, hits are hypergeometric, which only makes it more careful: Hoeffding,
    "Probability Inequalities for Sums of Bounded Random Variables" (1963), theorem 4. 0 where nothing can be said; a share of 0 is
    exceeded by any hit.
    """
    if trials == 0 or share >= 1:
        return 0.0
    if share <= 0:
        return math.inf if hits else 0.0
    return mean(hits * math.log(odds) - trials * math.log1p(share * (odds - 1)) for odds in ODDS)


def least(hits: int, trials: int, certainty: float) -> float:
    """The lowest share that `exceeds` does not refute at this certainty: a bound that holds at all looks at once, 0 to 1."""
    low, high = 0.0, hits / trials if trials else 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if exceeds(hits, trials, middle) >= certainty:
            low = middle
        else:
            high = middle
    return low


def harmed(hits: float, trials: int, usual: float, harm: float) -> float:
    """How much likelier the hits are at the rate `harm` than at the rate `usual`; both above 0 and under 1."""
    return hits * math.log(harm / usual) + (trials - hits) * math.log((1 - harm) / (1 - usual))


def exceeds_mean(difference: float, error: float, unit: float) -> float:
    """How strongly a difference of means of standard error `error` speaks for one above 0; rises are counted in `unit`s.

    It takes the means for normal, which they are for some dozens of values and more: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    "Time-uniform Central Limit Theory and Asymptotic Confidence Sequences" (2021).
    """
    return mean(harmed_mean(difference, error, rise * unit) for rise in RISES)


def harmed_mean(difference: float, error: float, harm: float) -> float:
    """How much likelier the difference is where the true one is `harm` than where it is 0."""
    return (difference * harm - harm * harm / 2) / (error * error)


def fisher(hits: int, trials: int, other_hits: int, other_trials: int) -> float:
    """Fisher's exact one-sided p: how likely so many of all the hits fall on the first arm where the rates are the same.

    For one look only, as people know it: no verdict goes by it.
    """
    every, total = hits + other_hits, trials + other_trials
    few = hits * total <= every * trials
    # From `hits` away from the commonest deal, where the terms fade: few of them count.
    deals = range(hits - 1, -1, -1) if few else range(hits, min(every, trials) + 1)
    found = 0.0
    for one in deals:
        term = math.exp(_choices(trials, one) + _choices(other_trials, every - one) - _choices(total, every))
        found += term
        if term <= found * _NEGLIGIBLE:
            break
    return max(0.0, 1 - found) if few else min(1.0, found)


def mean(logs: Iterable[float]) -> float:
    """Logarithm of the mean of what these, one at least, are the logarithms of."""
    found = list(logs)
    most = max(found)
    if most == math.inf:
        return most
    return most + math.log(math.fsum(math.exp(one - most) for one in found) / len(found))


def _choices(among: int, taken: int) -> float:
    """Logarithm of the binomial coefficient; minus infinity where there is no such choice."""
    if not 0 <= taken <= among:
        return -math.inf
    return math.lgamma(among + 1) - math.lgamma(taken + 1) - math.lgamma(among - taken + 1)
