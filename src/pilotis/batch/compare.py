"""Two runs over the same questions: what changed, by how much, and how likely that is chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotis.batch.figures import METRICS
from pilotis.errors import Invalid
from pilotis.ports.quality import Evaluation, Judged
from pilotis.rag.statistics import Paired, paired

ALPHA = 0.05
"""Below this a difference is called one."""

_MEASURED: Mapping[str, Callable[[Judged], float | None]] = {
    **{name: lambda row, name=name: row.metrics.get(name) for name in METRICS},  # type: ignore[misc]
    "latency_ms": lambda row: row.latency_ms,
    "eur_per_request": lambda row: None if row.error else float(row.cost_eur),
}
LOWER_IS_BETTER = frozenset({"latency_ms", "eur_per_request"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure, before and after."""

    name: str
    before: float
    after: float
    test: Paired

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no difference shown`."""
        if self.test.p >= ALPHA or self.test.effect == 0:
            return "no difference shown"
        return "better" if (self.test.effect > 0) != (self.name in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of it. `shared` questions were compared; `only_before` and `only_after` were asked in one run alone."""

    before: Evaluation
    after: Evaluation
    changes: tuple[Change, ...]
    shared: int
    only_before: int
    only_after: int
    moved: tuple[tuple[Judged, Judged, float], ...]
    """Questions whose mean figure moved, as before, after and by how much; what became worse first."""
    settings: Mapping[str, tuple[Any, Any]]
    """What of the configuration differs: before and after."""


def compare(before: tuple[Evaluation, Sequence[Judged]], after: tuple[Evaluation, Sequence[Judged]]) -> Comparison:
    """Pair the questions of two runs by id and text, and test each figure that both have.

    Raises Invalid where they share no question.
    """
    was = {(row.id, row.question): row for row in before[1]}
    pairs = [(was[key], row) for row in after[1] if (key := (row.id, row.question)) in was]
    if not pairs:
        raise Invalid(
            f"the runs {before[0].id[:8]} ({before[0].golden}) and {after[0].id[:8]} ({after[0].golden}) share no question",
            remedy="compare runs of one golden set",
            code="nothing_to_compare",
        )
    changes = []
    for name, measure in _MEASURED.items():
        both = [(x, y) for one, other in pairs if (x := measure(one)) is not None and (y := measure(other)) is not None]
        if both:
            xs, ys = [x for x, _ in both], [y for _, y in both]
            changes.append(Change(name=name, before=sum(xs) / len(xs), after=sum(ys) / len(ys), test=paired(xs, ys)))
    moved = [(one, other, delta) for one, other in pairs if (delta := _mean(other) - _mean(one))]
    return Comparison(
        before=before[0],
        after=after[0],
        changes=tuple(changes),
        shared=len(pairs),
        only_before=len(before[1]) - len(pairs),
        only_after=len(after[1]) - len(pairs),
        moved=tuple(sorted(moved, key=lambda pair: (pair[2], pair[0].id))),
        settings=differences(before[0].config, after[0].config),
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that are not the same."""
    names = dict.fromkeys((*before, *after))
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _mean(row: Judged) -> float:
    return sum(row.metrics.values()) / len(row.metrics) if row.metrics else 0.0
