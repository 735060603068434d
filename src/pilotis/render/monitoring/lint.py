"""What `promtool` lets pass: a name that no metric has, euros a second held against euros an hour, a share without a floor, a look
further back than measurements are kept, a threshold that cannot be reached, a label that a metric has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from pilotis.derive.names import METRICS
from pilotis.render.monitoring.alert import Recording, seconds

PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds", "up")
"""What every process exports about itself, and what Prometheus adds."""
SCRAPED = frozenset({"job", "instance"})
"""Labels that every measurement gets as it is scraped."""
_WORDS = frozenset(
    "sum max min count avg topk by on ignoring group_left group_right and or unless offset bool absent rate increase delta deriv changes "
    "histogram_quantile label_replace vector scalar clamp_min clamp_max days_in_month day_of_month hour minute without time".split()
)
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_SELECTOR = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)\{([^}]*)\}")


def labels_of(recordings: Iterable[Recording]) -> dict[str, frozenset[str]]:
    """Every name that may be asked for, with the labels it has beside those of scraping."""
    known: dict[str, frozenset[str]] = {name: frozenset() for name in PROCESS}
    for name, metric in METRICS.items():
        endings = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        for ending in endings:
            known[name + ending] = frozenset(metric.labels) | (frozenset({"le"}) if ending == "_bucket" else frozenset())
    known.update((recording.name, frozenset(recording.labels)) for recording in recordings)
    return known


def lint(expr: str, known: Mapping[str, frozenset[str]], *, retention_days: int) -> Iterator[str]:
    """What is wrong with a question, one text each. `known` is from `labels_of`."""
    yield from _names(expr, known)
    yield from _units(expr)
    yield from _floors(expr)
    yield from _ranges(expr, retention_days)
    yield from _reach(expr)


def _names(expr: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    for name, matchers in _SELECTOR.findall(expr):
        has = known.get(name, frozenset()) | SCRAPED
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)):
            if name in known and label not in has:
                yield f"{name} has no label {label}"
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|offset\s+\w+", " ", bare)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " ", bare)
    for name in _NAME.findall(re.sub(r"(?<![\w:])\d[\w.]*", " ", bare)):
        if name not in _WORDS and name not in known:
            yield f"{name} is no metric"


def _units(expr: str) -> Iterator[str]:
    money = re.search(r"\brate\(rag_cost_eur_total", expr)
    if money and "/" not in expr and re.search(r"[<>]", expr) and not re.search(r"\*\s*(3600|86400)", expr):
        yield "rate() of euros is euros a second, and is compared as it is: use increase() over the budget's window"


def _floors(expr: str) -> Iterator[str]:
    """A comparison outside the divisor is the alert's threshold, and no floor."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    for found in re.finditer(r"/", bare):
        divisor = _operand(bare[found.end() :])
        if re.search(r"\b(rate|increase)\(", divisor) and not re.search(r">=?\s*\d|\bclamp_min\(", divisor):
            yield "a share is taken of events that may be none: give its divisor a floor"


def _operand(text: str) -> str:
    """The operand that a text begins with: all up to the end of its last parenthesis, with what it is grouped by."""
    head = re.match(
        r"\s*((on|ignoring|group_left|group_right)\b\s*(\([^)]*\))?\s*)*(\w+\s*)?((by|without)\s*\([^)]*\)\s*)?", text
    )
    start = head.end() if head else 0
    if not text.startswith("(", start):
        return text[:start]
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[: at + 1]
    return text


def _ranges(expr: str, retention_days: int) -> Iterator[str]:
    bare = re.sub(r'"[^"]*"', "", expr)
    back = sum(
        max((seconds(text) for text in re.findall(pattern, bare)), default=0)
        for pattern in (r"\[(\d+[smhdw])", r"offset (\d+[smhdw])")
    )
    if back > retention_days * 86_400:
        yield f"looks {back / 86_400:g} days back, and measurements are kept for {retention_days}"


def _reach(expr: str) -> Iterator[str]:
    for name, bound in re.findall(r"(\w[\w:]*:ratio\w*) > ([0-9.]+)", expr):
        if float(bound) >= 1:
            yield f"{name} is at most 1 and can never exceed {bound}"
