"""How often the judge errs: whole simulated rollouts, 5 to 25 to 100 per cent, of releases that are alike and of worse ones.

    python bench/judge.py [--rollouts 2000] [--plot docs/images/judge.svg] [--json]

The verdict is asked for after every ten requests of the candidate, over all that it had since the weight changed. A stage ends when it
passes or fails; after 2,000 requests of the candidate it is held for good, which is neither. At 100 per cent stable has no traffic, so the
candidate is judged by the objectives alone. Seeded: the same figures each time.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from common import parser, report
from pilotis.control.judge import Gates, judge
from pilotis.control.sequential import fisher
from pilotis.ports.releases import LATENCY_BOUNDS_MS, Outcome, Traffic

STEP, MOST = 10, 2000
"""Requests of the candidate between two looks, and those after which a stage is given up."""
QUESTIONS_A_LOOK = 20
STAGES = (5, 25, 100)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUCKETS = len(LATENCY_BOUNDS_MS) + 1
SLOWEST = 0.1
"""The part of the requests that is slow where only the slowest become slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """How a release behaves."""

    errors: float = 0.01
    median_ms: float = 400.0
    sigma: float = 0.6
    """Of the logarithm of a request's time."""
    tail: float = 1.0
    """By how much the slowest tenth takes longer."""
    eur: float = 0.01
    eur_sigma: float = 0.6
    cached: float = 0.3
    lost: float = 0.01
    """Golden questions that it loses; the other arm's are lost by chance as often as they are won."""
    won: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of the table."""

    name: str
    stable: Arm = Arm()
    candidate: Arm = Arm()
    alike: bool = False
    golden: int = 1000
    callers: int = 0
    """Each caller stays on its arm and has a level of cost and of latency of its own; none: requests do not depend on each other."""
    watch: bool = False
    """Look on to the end of each stage, as a guard between steps does, and count any failure."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How one rollout ended: which outcome, at which stage, after how many requests of the candidate."""

    outcome: Outcome
    stage: int
    requests: int
    passed: tuple[int, ...]
    """Requests until each stage that passed."""


def cases() -> Iterator[Case]:
    usual, rare = Arm(), Arm(errors=0.001)
    heavy = Arm(sigma=1.0, eur_sigma=1.2)
    yield Case(name="alike", alike=True)
    yield Case(name="alike, watched to the end of each stage", alike=True, watch=True)
    yield Case(name="alike, 0.1 % errors", stable=rare, candidate=rare, alike=True)
    yield Case(name="alike, heavy tails", stable=heavy, candidate=heavy, alike=True)
    yield Case(name="alike, heavy tails, watched", stable=heavy, candidate=heavy, alike=True, watch=True)
    yield Case(name="alike, 4,000 callers that differ, watched", alike=True, callers=4000, watch=True)
    yield Case(name="alike, 400 callers that differ, watched", alike=True, callers=400, watch=True)
    yield Case(name="errors 1 % to 5 %", candidate=replace(usual, errors=0.05))
    yield Case(name="errors 0.1 % to 4.1 %", stable=rare, candidate=replace(rare, errors=0.041))
    yield Case(name="every request × 1.5", candidate=replace(usual, median_ms=600))
    yield Case(name="the slowest tenth × 1.5", candidate=replace(usual, tail=1.5))
    yield Case(name="heavy tails, every request × 1.5", stable=heavy, candidate=replace(heavy, median_ms=600))
    yield Case(name="cost × 1.3", candidate=replace(usual, eur=0.013))
    yield Case(name="heavy tails, cost × 1.3", stable=heavy, candidate=replace(heavy, eur=0.013))
    for golden in (100, 200, 300, 400, 600, 800, 1000):
        yield Case(name=f"hit@5 - 5 points, {golden} questions", candidate=replace(usual, lost=0.06), golden=golden)
    for golden in (200, 300, 400):
        name = f"hit@5 - 5 points, {golden} questions, none by chance"
        yield Case(name=name, candidate=replace(usual, lost=0.05, won=0.0), golden=golden)
    yield Case(name="alike, 3 questions", alike=True, golden=3)
    yield Case(name="alike, 59 questions, none changed", candidate=replace(usual, lost=0.0, won=0.0), alike=True, golden=59)
    yield Case(name="alike, 100 questions", alike=True, golden=100)
    yield Case(name="alike, 300 questions", alike=True, golden=300)


BY = Gates(min_sample=200, stages=3, error_rate=0.01, p95_ms=5000, hit_at_5=0.8, eur_per_req=0.05)
"""The contract's defaults, and objectives that stable meets. Its errors are just as many as the objective allows."""

Looks = list[dict[str, Any]]


def rollout(case: Case, seed: int) -> Ran:
    """One rollout from its start to its end."""
    chance = np.random.default_rng(seed)
    pairs = quality(case, chance)
    requests = 0
    passed: list[int] = []
    for stage in STAGES:
        outcome, used = judged(case, stage, pairs, len(passed) * MOST // STEP, chance)
        requests += used
        if outcome == "fail":
            return Ran("fail", stage, requests, tuple(passed))
        if outcome != "pass":
            return Ran("inconclusive", stage, requests, tuple(passed))
        passed.append(used)
    return Ran("pass", STAGES[-1], requests, tuple(passed))


def judged(case: Case, weight: int, pairs: NDArray[np.int64], before: int, chance: np.random.Generator) -> tuple[Outcome, int]:
    """The outcome of one stage, and the candidate's requests until then."""
    looks = MOST // STEP
    alone = weight == 100
    mine = arm(case.candidate, np.full(looks, STEP), case, weight, chance)
    beside = chance.negative_binomial(STEP, weight / 100, looks) if not alone else np.zeros(looks, dtype=np.int64)
    others = arm(case.stable, beside, case, 100 - weight, chance)
    ended: Outcome = "inconclusive"
    for look in range(looks):
        asked = min((before + look + 1) * QUESTIONS_A_LOOK, len(pairs))
        lost, won = int((pairs[:asked] < 0).sum()), int((pairs[:asked] > 0).sum())
        hits = max(0, min(round(0.9 * asked), asked - won) - lost)
        candidate = traffic(mine[look], {"asked": asked, "hits": hits + won, "won": won})
        stable = traffic(others[look], {"asked": asked, "hits": hits + lost, "won": lost})
        outcome = judge(candidate, stable, BY, hard=alone).outcome
        assert outcome != "error"
        if outcome == "fail" or (outcome == "pass" and not case.watch):
            return outcome, (look + 1) * STEP
        ended = "pass" if outcome == "pass" else ended
    return ended, MOST


def arm(of: Arm, requests: NDArray[np.int64], case: Case, weight: int, chance: np.random.Generator) -> Looks:
    """What the arm did in all at each look, where it had so many requests more."""
    looks, total = len(requests), int(requests.sum())
    at = np.repeat(np.arange(looks), requests)
    ms = of.median_ms * np.exp(of.sigma * chance.standard_normal(total))
    ms[ms > of.median_ms * np.exp(of.sigma * 1.2816)] *= of.tail
    eur = of.eur * np.exp(of.eur_sigma * chance.standard_normal(total) - of.eur_sigma**2 / 2)
    if case.callers and total:
        own = max(1, case.callers * weight // 100)
        callers, levels = chance.integers(0, own, total), np.exp(0.3 * chance.standard_normal((2, own)))
        ms, eur = ms * levels[0][callers], eur * levels[1][callers]
    eur = np.where(chance.random(total) < of.cached, 0, eur)
    buckets = np.searchsorted(LATENCY_BOUNDS_MS, ms)
    counts = np.bincount(at * BUCKETS + buckets, minlength=looks * BUCKETS).reshape(looks, BUCKETS).cumsum(axis=0)
    errors = np.bincount(at, chance.random(total) < of.errors, looks).cumsum()
    paid, cost, squares = (np.bincount(at, values, looks).cumsum() for values in (eur > 0, eur, eur**2))
    return [
        {
            "requests": int(had),
            "errors": int(errors[look]),
            "latency": tuple(int(count) for count in counts[look]),
            "paid": int(paid[look]),
            "cost_eur": Decimal(float(cost[look])),
            "cost_sq": Decimal(float(squares[look])),
        }
        for look, had in enumerate(requests.cumsum())
    ]


def quality(case: Case, chance: np.random.Generator) -> NDArray[np.int64]:
    """Golden questions in the order in which they are asked: -1 lost, 1 won, 0 as before."""
    drawn = chance.random(case.golden)
    return np.where(drawn < case.candidate.lost, -1, np.where(drawn > 1 - case.candidate.won, 1, 0))


def traffic(done: dict[str, Any], questions: dict[str, Any]) -> Traffic:
    return Traffic(since=NOW, until=NOW, saturation=0.5, **done, **questions)


def naive(seed: int) -> bool:
    """Whether Fisher's test at 5 %, made anew at each look of the same rollout, ever finds more errors with a release that is alike."""
    chance, usual = np.random.default_rng(seed), Case(name="")
    for weight in STAGES[:-1]:
        looks = MOST // STEP
        mine = arm(usual.candidate, np.full(looks, STEP), usual, weight, chance)
        others = arm(usual.stable, chance.negative_binomial(STEP, weight / 100, looks), usual, 100 - weight, chance)
        for a, b in zip(mine, others, strict=True):
            if fisher(a["errors"], a["requests"], b["errors"], b["requests"]) < 0.05:
                return True
    return False


def row(case: Case, ran: Sequence[Ran]) -> dict[str, object]:
    def share(outcome: str) -> float:
        return round(100 * sum(one.outcome == outcome for one in ran) / len(ran), 2)

    ended = [one.requests for one in ran if one.outcome == ("pass" if case.alike else "fail")]
    at = statistics.quantiles(ended, n=20, method="inclusive") if len(ended) > 1 else []
    made: dict[str, object] = {
        "release": case.name,
        "called back %": share("fail"),
        "goes through %": share("pass"),
        "held %": share("inconclusive"),
    }
    if not case.alike:
        made["passed the first stage %"] = round(100 * sum(bool(one.passed) for one in ran) / len(ran), 2)
    if at and not case.watch:
        made |= {"requests, median": round(at[9]), "requests, 95 of 100": round(at[18])}
    return made


def plot(rows: Sequence[dict[str, object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "judge", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 6))
    names = [str(one["release"]) for one in rows][::-1]
    left = np.zeros(len(rows))
    colours = {"called back %": "#b3392f", "held %": "#c9c3b5", "goes through %": "#3c7a57"}
    for column, colour in colours.items():
        values = np.array([float(str(one[column])) for one in rows][::-1])
        axes.barh(names, values, left=left, color=colour, label=column.removesuffix(" %"))
        left += values
    axes.axvline(5, color="black", linewidth=0.8, linestyle="--")
    axes.axvline(95, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel="per cent of simulated rollouts; the dashed lines are 5 and 95", xlim=(0, 100))
    figure.legend(loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _run(given: tuple[Case, int]) -> Ran:
    return rollout(*given)


def main(rollouts: int, only: str, show: Callable[[list[dict[str, object]]], None]) -> None:
    rows = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for case in [case for case in cases() if only in case.name]:
            jobs = pool.map(_run, [(case, seed) for seed in range(rollouts)], chunksize=8)
            rows.append(row(case, list(track(jobs, description=f"{case.name:<40}", total=rollouts, console=console()))))
        if not only:
            wrong = statistics.mean(pool.map(naive, range(rollouts), chunksize=8))
            print(
                f"alike, errors alone, by Fisher's test at 5 % anew at each look: {100 * wrong:.1f} % called back",
                file=sys.stderr,
            )
    show(rows)


def console() -> Any:
    from rich.console import Console

    return Console(file=sys.stderr)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--rollouts", type=int, default=2000, help="simulated rollouts of each line (2000)")
    arguments.add_argument("--only", default="", help="the lines whose name holds this")
    arguments.add_argument("--plot", type=Path, help="write the picture, as SVG")
    given = arguments.parse_args()

    def show(rows: list[dict[str, object]]) -> None:
        report("Simulated rollouts", rows, as_json=given.json)
        if given.plot:
            plot(rows, given.plot)

    main(given.rollouts, given.only, show)
