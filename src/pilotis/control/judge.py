"""Whether a release may go on: by evidence, and by nothing else.

A verdict fails as soon as one gate is certain of harm, however few requests that took. It passes only where each arm has had the requests
that the contract asks for and every gate passes. What is left is inconclusive, which is no reason to go on and none to go back.
`docs/judge.md` has the method, and how often it errs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilotis.control.gate import Finding, Gates, by_comparison, by_objectives, gates
from pilotis.ports.releases import LATENCY_BOUNDS_MS, Outcome, Traffic

__all__ = ["Finding", "Gates", "Verdict", "gates", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reasons` are those of this outcome: each failure, or each thing that is not yet known, or all that passed."""

    outcome: Outcome
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]

    def figures(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        rows = [
            {"gate": one.name, "kind": one.kind, "outcome": one.outcome, "reason": one.reason, **one.figures}
            for one in self.findings
        ]
        return {"outcome": self.outcome, "reasons": list(self.reasons), "gates": rows}


def judge(candidate: Traffic | None, stable: Traffic | None, by: Gates, *, hard: bool = False) -> Verdict:
    """Both arms over one window, since the weight was confirmed; None where nobody could say what an arm did.

    With `hard` the candidate is held to the objectives alone: where stable is known to be broken, or has no traffic to compare with. It
    may be asked as often as one likes: looking again does not make a false alarm likelier.
    """
    if candidate is None or (stable is None and not hard):
        arm = "the candidate" if candidate is None else "stable"
        return Verdict(outcome="error", reasons=(f"nobody could say what {arm} did",), findings=())
    faults = tuple(
        f"the figures of {arm} contradict each other: {fault}"
        for arm, traffic in (("the candidate", candidate), ("stable", stable))
        if traffic is not None and not (hard and traffic is stable)
        for fault in _faults(traffic)
    )
    if stable is not None and not hard and not faults and not _paired(candidate, stable):
        faults = ("the golden questions of the two arms are not the same ones, or were not counted in pairs",)
    if faults:
        return Verdict(outcome="error", reasons=faults, findings=())
    found = tuple(by_objectives(candidate, None if hard else stable, by))
    arms = [("the candidate", candidate)]
    if stable is not None and not hard:
        found += tuple(by_comparison(candidate, stable, by))
        arms.append(("stable", stable))
    short = tuple(
        f"{arm} had {traffic.requests:,} of the {by.min_sample:,} requests that a verdict needs"
        for arm, traffic in arms
        if traffic.requests < by.min_sample
    )
    return _verdict(found, short)


def _verdict(found: tuple[Finding, ...], short: tuple[str, ...]) -> Verdict:
    outcomes = {one.outcome for one in found}
    outcome: Outcome = "pass"
    if "fail" in outcomes:
        outcome = "fail"
    elif short or "inconclusive" in outcomes:
        outcome = "inconclusive"
    said = tuple(f"{one.name} ({one.kind}): {one.reason}" for one in found if one.outcome == outcome)
    return Verdict(outcome=outcome, reasons=short + said if outcome == "inconclusive" else said, findings=found)


def _faults(arm: Traffic) -> Iterator[str]:
    """What cannot be so."""
    counts = (arm.requests, arm.errors, arm.paid, arm.asked, arm.hits, arm.won, *arm.latency)
    if min(counts) < 0:
        yield "a count is below 0"
    if len(arm.latency) != len(LATENCY_BOUNDS_MS) + 1:
        yield f"{len(arm.latency)} buckets of latency, not {len(LATENCY_BOUNDS_MS) + 1}"
    if arm.errors > arm.requests:
        yield f"{arm.errors:,} of {arm.requests:,} requests failed"
    if arm.hits > arm.asked or arm.won > arm.hits:
        yield f"{arm.won:,} golden questions won, {arm.hits:,} hit, {arm.asked:,} asked"
    if not arm.cost_eur.is_finite() or not arm.cost_sq.is_finite() or arm.cost_eur < 0 or arm.cost_sq < 0:
        yield f"costs of {arm.cost_eur} EUR and {arm.cost_sq} EUR²"
    elif arm.cost_eur > 0 and not arm.paid:
        yield f"{arm.cost_eur} EUR for no answer"
    if arm.saturation is not None and not (math.isfinite(arm.saturation) and arm.saturation >= 0):
        yield f"a saturation of {arm.saturation}"


def _paired(candidate: Traffic, stable: Traffic) -> bool:
    return candidate.asked == stable.asked and candidate.hits - candidate.won == stable.hits - stable.won
