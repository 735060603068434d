"""Whether a run keeps what the contract promises, line by line. Too few questions are no evidence either way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any, Literal

from pilotis.contract.model import Contract
from pilotis.errors import SetupError
from pilotis.rag.statistics import enough_for_share

TAIL = 0.95
"""Of the latencies: the contract's p95."""

Verdict = Literal["kept", "broken", "too few"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One objective of the contract, and what the run says of it."""

    objective: str
    """Its key in the contract."""
    figure: str
    limit: float
    at_least: bool
    """Whether the figure has to reach the limit; else it has to stay within."""
    needed: int
    """How many questions it takes to tell."""
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "too few"
        kept = self.value >= self.limit if self.at_least else self.value <= self.limit
        if self.figure == "error_rate" and self.value == 0:
            return "kept"  # nothing speaks against it, however few were asked
        if self.n < self.needed:
            return "too few"
        return "kept" if kept else "broken"

    @property
    def is_close(self) -> bool:
        """Whether the limit lies within the interval: another sample of questions might be judged the other way."""
        return self.low is not None and self.high is not None and self.low < self.limit < self.high

    def says(self) -> str:
        """The line in words, for a person."""
        bound = "at least" if self.at_least else "at most"
        asked = f"{self.objective} {bound} {_shown(self.limit, self.figure)}"
        if self.value is None:
            return f"{asked}: no question tells ({self.figure} needs {_NEEDS.get(self.figure, 'answers')})"
        values = (_shown(one, self.figure) for one in (self.value, self.low or 0.0, self.high or 0.0))
        figure, low, high = values
        told = f"{asked}: {figure} [{low} to {high}] over {self.n} questions"
        if self.verdict == "too few":
            return f"{told}; it takes {self.needed} to tell"
        return f"{told}; the limit lies within the interval, more questions would tell" if self.is_close else told


def gate(contract: Contract, figures: Mapping[str, Any], *, paid_sample: int) -> list[Line]:
    """The contract's objectives against the figures of all questions. `paid_sample`: costs a mean needs before it says anything.

    A share or a quantile needs as many questions as it takes for the best of outcomes to be evidence (`enough_for_share`).
    Raises SetupError where the contract promises nothing that a run can tell.
    """
    slo = contract.slo
    euros = slo.eur_per_req if slo.eur_per_req is not None else contract.costs.guardrail_eur_per_req
    asked: list[tuple[str, str, Decimal | int | None, int]] = [
        ("slo.hit_at_5", "hit@5", slo.hit_at_5, _share_needs(slo.hit_at_5)),
        ("slo.p95_ms", "p95_ms", slo.p95_ms, enough_for_share(TAIL)),
        (
            "slo.eur_per_req" if slo.eur_per_req is not None else "costs.guardrail_eur_per_req",
            "eur_per_request",
            euros,
            paid_sample,
        ),
    ]
    if all(limit is None for _, _, limit, _ in asked):
        raise SetupError(
            "the contract promises nothing that an evaluation can tell",
            remedy="write hit_at_5, p95_ms or eur_per_req below [slo]",
        )
    asked.append(("slo.error_rate", "error_rate", slo.error_rate, ceil(1 / slo.error_rate) if slo.error_rate else 1))
    return [
        _line(objective, figure, float(limit), needed, figures.get(figure))
        for objective, figure, limit, needed in asked
        if limit is not None
    ]


def exit_code(lines: Sequence[Line]) -> int:
    """1 where a line is broken, else 2 where one cannot be told, else 0."""
    verdicts = {line.verdict for line in lines}
    return 1 if "broken" in verdicts else 2 if "too few" in verdicts else 0


_NEEDS = {"hit@5": "questions with expected passages"}


def _share_needs(limit: Decimal | None) -> int:
    return enough_for_share(min(float(limit or 0), TAIL))


def _line(objective: str, figure: str, limit: float, needed: int, found: Mapping[str, Any] | None) -> Line:
    told = {} if found is None else {name: found[name] for name in ("value", "low", "high")}
    return Line(
        objective=objective,
        figure=figure,
        limit=limit,
        at_least=figure == "hit@5",
        needed=needed,
        n=found["n"] if found else 0,
        **told,
    )


def _shown(value: float, figure: str) -> str:
    if figure.endswith("_ms"):
        return f"{value:,.0f} ms"
    return f"{value:.6f} €" if figure == "eur_per_request" else f"{value:.3f}"
