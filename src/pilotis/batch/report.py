"""A run as one page of HTML."""

from __future__ import annotations

from collections.abc import Sequence

from pilotis.batch.compare import Comparison
from pilotis.batch.gate import Line
from pilotis.batch.runs import Run
from pilotis.ports.quality import Judged


def page(run: Run, comparison: Comparison | None, lines: Sequence[Line]) -> str:
    return ""


def score(row: Judged) -> float:
    """One number to sort questions by, 0 to 1: what was found and cited, and what the answer holds; never how it was put."""
    values = [
        row.metrics[name] for name in ("hit@5", "ndcg@10", "contains", "citation_precision", "abstained") if name in row.metrics
    ]
    return sum(values) / len(values) if values else float(row.found)


def worst_first(rows: Sequence[Judged]) -> list[Judged]:
    """Failures, then the lowest `score`, and of equal ones those that have an answer; else in the order of the set."""
    return sorted(rows, key=lambda row: (row.error is None, score(row), "abstained" in row.metrics))
