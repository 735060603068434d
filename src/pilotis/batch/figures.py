"""What a run amounts to: each figure with its interval, over all questions and by tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pilotis.ports.quality import Judged
from pilotis.rag.statistics import bootstrap

METRICS: Mapping[str, str] = {
    "hit@1": "share of questions whose first passage is an expected one",
    "hit@5": "share of questions with an expected passage among the first five",
    "mrr@10": "mean of 1 / rank of the first expected passage, of the first ten",
    "ndcg@10": "how close the first ten come to the best order",
    "contains": "share of answers that hold a right answer, word for word",
    "f1": "overlap of the answer's words with the right answer's",
    "exact_match": "share of answers that are the right answer and nothing else",
    "citation_precision": "share of the cited passages that are expected ones",
    "answered": "share of answerable questions that got an answer",
    "abstained": "share of unanswerable questions that were told so",
}
"""Names of the figures of one question, each from 0 to 1 and better when higher, with what their mean is."""

TOTALS: Mapping[str, str] = {
    "p50_ms": "half of the answers came within, in milliseconds",
    "p95_ms": "95 of 100 answers came within, in milliseconds",
    "eur_per_request": "mean cost of a question, in euros",
    "error_rate": "share of questions whose answer failed",
}
"""Better when lower."""


def figures(rows: Sequence[Judged]) -> dict[str, Any]:
    """Of `all` questions, and by each of their `tags`: by name value, low, high (of a 95 % interval) and n.

    What no question tells is left out.
    """
    tags = dict.fromkeys(tag for row in rows for tag in row.tags)
    return {"all": summary(rows), "tags": {tag: summary([row for row in rows if tag in row.tags]) for tag in tags}}


def ordered(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The same in the order they are shown in: a database does not keep one."""
    return [(name, found[name]) for name in (*METRICS, *TOTALS) if name in found]


def summary(rows: Sequence[Judged]) -> dict[str, Any]:
    """The same for some of the questions."""
    found = {}
    for name in METRICS:
        values = [row.metrics[name] for row in rows if name in row.metrics]
        if values:
            found[name] = asdict(bootstrap(values))
    times = [row.latency_ms for row in rows if row.latency_ms is not None]
    if times:
        found["p50_ms"] = asdict(bootstrap(times, share=0.5))
        found["p95_ms"] = asdict(bootstrap(times, share=0.95))
        found["eur_per_request"] = asdict(bootstrap([float(row.cost_eur) for row in rows if row.latency_ms is not None]))
    if rows:
        found["error_rate"] = asdict(bootstrap([float(row.error is not None) for row in rows]))
    return found
