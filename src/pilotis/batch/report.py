"""A run as one page of HTML that needs nothing else: no script, no font, no address. Whatever it shows is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotis.batch.compare import ALPHA, Change, Comparison
from pilotis.batch.figures import METRICS, TOTALS, ordered
from pilotis.batch.gate import Line
from pilotis.batch.runs import Run
from pilotis.ports.quality import Judged

if TYPE_CHECKING:
    from jinja2 import Template

MOST_QUESTIONS, MOST_MOVED, MOST_TAGS = 500, 20, 16
LEAST_FOR_INTERVAL = 10
"""Questions of a tag below which an interval would promise too much."""
BY_TAG = ("hit@5", "ndcg@10", "contains", "abstained")
LEAST_MOVE = 0.005
BINS, HEIGHT = 28, 100
WORDS = {"kept": "kept", "broken": "broken", "too few": "not enough evidence"}


def page(run: Run, comparison: Comparison | None, lines: Sequence[Line]) -> str:
    """The whole page. Raises nothing of its own: a run without figures is a page without plots."""
    from markupsafe import Markup

    evaluation, rows = run
    worst = worst_first(rows)
    figures = evaluation.figures.get("all", {})
    tags, left_tags = _tags(evaluation.figures.get("tags", {}))
    return _template().render(
        run=evaluation,
        at=_moment(evaluation.at),
        lines=lines,
        words=WORDS,
        figures=[_figure(name, found, comparison) for name, found in ordered(figures)],
        tags=tags,
        left_tags=left_tags,
        least=LEAST_FOR_INTERVAL,
        latency=_latency([row.latency_ms for row in rows if row.latency_ms is not None]),
        comparison=comparison,
        before_at=_moment(comparison.before.at) if comparison else "",
        alpha=ALPHA,
        moved=_moved(comparison) if comparison else [],
        questions=[_question(row) for row in worst[:MOST_QUESTIONS]],
        left_out=max(0, len(worst) - MOST_QUESTIONS),
        # Made of numbers alone, so it is the one thing that is not escaped.
        interval=lambda plot: Markup(_interval(**plot)),  # noqa: S704
    )


def score(row: Judged) -> float:
    """One number to sort questions by, 0 to 1: what was found and cited, and what the answer holds; never how it was put."""
    names = ("hit@5", "ndcg@10", "contains", "citation_precision", "abstained")
    values = [row.metrics[name] for name in names if name in row.metrics]
    return sum(values) / len(values) if values else float(row.found)


def worst_first(rows: Sequence[Judged]) -> list[Judged]:
    """Failures, then the lowest `score`, and of equal ones those that have an answer; else in the order of the set."""
    return sorted(rows, key=lambda row: (row.error is None, score(row), "abstained" in row.metrics))


def rank(row: Judged) -> str:
    """Where the first expected passage stood, or what became of the question else."""
    if row.error:
        return "failed"
    place = next((place for place, one in enumerate(row.seen, 1) if one.expected), None)
    if place is not None:
        return str(place)
    return ("answered" if row.found else "not found") if "hit@5" not in row.metrics else f"> {len(row.seen)}"


def plain(name: str, value: float) -> str:
    """A figure in the form its name asks for."""
    return f"{value:,.1f}" if name.endswith("_ms") else f"{value:.6f}" if name == "eur_per_request" else f"{value:.3f}"


def p_value(p: float) -> str:
    """Three digits, and never 0."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = files("pilotis.batch").joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _figure(name: str, found: Mapping[str, Any], comparison: Comparison | None) -> dict[str, Any]:
    change = next((one for one in comparison.changes if one.name == name), None) if comparison else None
    before = comparison.before.figures.get("all", {}).get(name) if comparison and change is None else None
    row: dict[str, Any] = {
        "name": name,
        "meaning": METRICS.get(name) or TOTALS.get(name, ""),
        "value": plain(name, found["value"]),
        "interval": f"{plain(name, found['low'])} to {plain(name, found['high'])}",
        "n": found["n"],
        "plot": None,
        "before": "" if before is None else plain(name, before["value"]),
        "change": ""
        if before is None
        else f"{'+' if found['value'] >= before['value'] else '-'}{plain(name, abs(found['value'] - before['value']))}",
        "p": "",
        "verdict": "",
        "css": "",
    }
    if name in METRICS:
        row["plot"] = {"value": found["value"], "low": found["low"], "high": found["high"], "was": change and change.before}
    return row if change is None else row | _change(change)


def _change(change: Change) -> dict[str, Any]:
    sign = "-" if change.test.effect < 0 else "+"
    return {
        "before": plain(change.name, change.before),
        "change": f"{sign}{plain(change.name, abs(change.test.effect))}",
        "p": p_value(change.test.p),
        "verdict": "" if change.verdict.startswith("no") else change.verdict,
        "css": {"better": "up", "worse": "down"}.get(change.verdict, ""),
    }


def _tags(tags: Mapping[str, Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """One plot a figure, the largest tags first; and how many tags were left out."""
    largest = sorted(tags.items(), key=lambda pair: -pair[1]["error_rate"]["n"])
    plots = []
    for name in BY_TAG:
        rows = [_tag(tag, found[name]) for tag, found in largest[:MOST_TAGS] if name in found]
        if rows:
            plots.append({"name": name, "rows": rows})
    return plots, max(0, len(largest) - MOST_TAGS)


def _tag(tag: str, found: Mapping[str, Any]) -> dict[str, Any]:
    known = found["n"] >= LEAST_FOR_INTERVAL
    plot = {
        "value": found["value"],
        "low": found["low"] if known else None,
        "high": found["high"] if known else None,
        "was": None,
    }
    return {"tag": tag, "plot": plot, "value": f"{found['value']:.2f}", "n": found["n"]}


def _interval(*, value: float, low: float | None, high: float | None, was: float | None) -> str:
    """A dot on a line from 0 to 1, its interval, and a ring where it was before. In shares of the width, so it fits any."""

    def at(share: float) -> str:
        return f"{4 + 92 * min(1.0, max(0.0, share)):.2f}%"

    said = f"{value:.3f}" + (f", 95 % interval {low:.3f} to {high:.3f}" if low is not None and high is not None else "")
    parts = [f'<line class="axis" x1="{at(0)}" x2="{at(1)}" y1="9" y2="9"/>']
    if low is not None and high is not None:
        parts.append(f'<line class="range" x1="{at(low)}" x2="{at(high)}" y1="9" y2="9"/>')
    if was is not None:
        parts.append(f'<circle class="was" cx="{at(was)}" cy="9" r="5"/>')
    parts.append(f'<circle class="dot" cx="{at(value)}" cy="9" r="4"/>')
    return f'<svg height="18" role="img" aria-label="{said}"><title>{said}</title>{"".join(parts)}</svg>'


def _latency(times: Sequence[float]) -> dict[str, Any] | None:
    """A histogram up to the 99th percentile; what took longer is in the last bar."""
    if not times:
        return None
    p50, p95, p99 = (float(one) for one in np.quantile(times, (0.5, 0.95, 0.99)))
    most = max(p99 * 1.02, 1e-3)
    counts, edges = np.histogram(np.minimum(times, most), bins=BINS, range=(0.0, most))
    width, tallest = 100 / BINS, max(1, int(counts.max()))
    bars = [
        {
            "x": f"{n * width:.3f}",
            "width": f"{width * 0.92:.3f}",
            "height": f"{HEIGHT * count / tallest:.1f}",
            "y": f"{136 - HEIGHT * count / tallest:.1f}",
            "title": f"{edges[n]:,.0f} to {edges[n + 1]:,.0f} ms: {count}",
        }
        for n, count in enumerate(counts)
        if count
    ]
    marks = [
        {"x": f"{100 * ms / most:.2f}", "y": y, "text": f"P{share} {ms:,.0f} ms", "anchor": "end" if ms > most / 2 else "start"}
        for share, ms, y in ((50, p50, 30), (95, p95, 15))
    ]
    more = f", {sum(one > most for one in times)} took longer" if max(times) > most else ""
    return {"bars": bars, "marks": marks, "p50": f"{p50:,.0f}", "p95": f"{p95:,.0f}", "most": f"{most:,.0f}", "more": more}


def _moved(comparison: Comparison) -> Iterable[dict[str, str]]:
    """What became worse most, then what became better most."""
    worse = [one for one in comparison.moved if one[2] <= -LEAST_MOVE][:MOST_MOVED]
    better = [one for one in comparison.moved if one[2] >= LEAST_MOVE][-MOST_MOVED:][::-1]
    return [
        {
            "change": f"{delta:+.2f}",
            "css": "down" if delta < 0 else "up",
            "question": after.question,
            "before": rank(before),
            "after": rank(after),
        }
        for before, after, delta in (*worse, *better)
    ]


def _question(row: Judged) -> dict[str, Any]:
    reached = 0.0 if row.error else score(row)
    return {
        "row": row,
        "rank": rank(row),
        "css": "kept" if reached >= 0.999 else "broken" if reached <= 0.001 else "few",
        "time": "" if row.latency_ms is None else f"{row.latency_ms:,.0f} ms",
        "cost": f"{row.cost_eur:.6f}",
        "figures": ", ".join(f"{name} {value:.2f}" for name, value in ordered(row.metrics)),
    }
