"""Runs and comparisons on the terminal, and as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pilotis.batch.figures import ordered
from pilotis.batch.report import LEAST_FOR_INTERVAL, MOST_TAGS, p_value, plain, rank, score, worst_first
from pilotis.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from pilotis.batch.compare import Change, Comparison
    from pilotis.batch.gate import Line
    from pilotis.batch.runs import Run
    from pilotis.ports.quality import Evaluation, Judged

LINE_EVERY_S = 10.0
WORST, SHOWN_CHARACTERS = 5, 70
BY_TAG = ("hit@5", "ndcg@10", "contains", "answered", "abstained")
SIGN = {"better": "▲", "worse": "▼"}


class Progress:
    """How many of `total` questions are answered, on stderr; nothing where `quiet`."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._console = output.err()
        self._bars: Bars | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[said]}"),
            )
            self._bars = Bars(TextColumn("questions"), *columns, console=self._console)
            self._bars.add_task("questions", total=self._total, said="")
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, done: int, failed: int) -> None:
        told = f"{failed} failed" if failed else ""
        if self._bars:
            self._bars.update(self._bars.task_ids[0], completed=done, said=f"[red]{told}[/]" if told else "")
        elif not self._quiet and time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            output.note(f"{done}/{self._total} questions{f', {told}' if told else ''}")


def print_run(run: Run, comparison: Comparison | None) -> None:
    """The figures of a run, by tag too, and the questions that went worst."""
    evaluation, rows = run
    console = output.out()
    console.print(heading(evaluation), style="bold", markup=False)
    if evaluation.state != "done":
        console.print(evaluation.error or "its figures come when a worker has done it", style="dim", markup=False)
        return
    figures = evaluation.figures["all"]
    columns = ["figure", "value", "95 % interval", "n"]
    columns += ["before", "change", "p", ""] if comparison else []
    output.table(columns, [[name, *_cells(name, found), *_change(name, comparison)] for name, found in ordered(figures)])
    tags = evaluation.figures["tags"]
    if tags:
        names = [name for name in BY_TAG if name in figures]
        largest = sorted(tags.items(), key=lambda pair: -pair[1]["error_rate"]["n"])
        shown = (
            (tag, found["error_rate"]["n"], *(_with_interval(name, found) for name in names))
            for tag, found in largest[:MOST_TAGS]
        )
        left = f", the {MOST_TAGS} largest of {len(largest)}" if len(largest) > MOST_TAGS else ""
        output.table(["tag", "n", *names], shown, title=f"\nby tag{left}")
    _print_worst(rows)
    if comparison:
        console.print(_paired_with(comparison), style="dim", markup=False)
    console.print(f"run {evaluation.id}", style="dim", markup=False)


def print_gate(lines: Sequence[Line]) -> None:
    """The contract's objectives, broken ones in red."""
    style = {"kept": "green", "broken": "bold red", "too few": "yellow"}
    word = {"kept": "kept", "broken": "broken", "too few": "not enough evidence"}
    for line in lines:
        output.out().print(f"{word[line.verdict]}: {line.says()}", style=style[line.verdict], markup=False)


def print_comparison(found: Comparison) -> None:
    """Each figure before and after, with its test; then the questions that moved most."""
    console = output.out()
    for said, one in (("A", found.before), ("B", found.after)):
        console.print(f"{said}  {heading(one)}", markup=False)
    for name, (was, now) in found.settings.items():
        console.print(f"   {name}: {was} → {now}", style="dim", markup=False)
    changes = {change.name: change for change in found.changes}
    columns = ("figure", "A", "B", "change", "95 % interval", "p", "up / down", "")
    output.table(columns, [_compared(change) for change in changes.values()])
    moved = [*found.moved[:WORST], *[one for one in found.moved[-WORST:] if one[2] > 0 and one not in found.moved[:WORST]]]
    if moved:
        rows = (
            (f"{delta:+.2f}", after.id, _short(after.question), rank(before), rank(after)) for before, after, delta in moved
        )
        output.table(("change", "id", "question", "A", "B"), rows, title="\nquestions that moved most")
    console.print(_paired_with(found), style="dim", markup=False)


def print_runs(found: Sequence[Evaluation]) -> None:
    """One line a run."""
    rows = [
        (
            one.id[:8] + (" *" if one.is_baseline else ""),
            f"{one.at:%Y-%m-%d %H:%M}",
            one.state,
            one.bu,
            one.golden,
            one.questions,
            one.config.get("llm"),
            one.config.get("top_k"),
            *(_plain(name, one.figures.get("all", {}).get(name)) for name in ("hit@5", "ndcg@10", "contains", "p95_ms")),
            one.error or " ".join(one.config.get("changes", ())),
        )
        for one in found
    ]
    columns = ("run", "at", "state", "bu", "golden set", "n", "llm", "top_k", "hit@5", "ndcg@10", "contains", "p95_ms", "")
    output.table(columns, rows)
    if any(one.is_baseline for one in found):
        output.out().print("* is the baseline of its set", style="dim", markup=False)


def heading(evaluation: Evaluation) -> str:
    """One line that says which run it is."""
    config = evaluation.config
    parts = [f"top_k {config.get('top_k')}", *config.get("flags", ()), *(f"({one})" for one in config.get("changes", ()))]
    return (
        f"{evaluation.golden}: {evaluation.questions} questions, {evaluation.env}, {evaluation.bu}, {config.get('llm')}, {', '.join(parts)}"
        f", {evaluation.at:%Y-%m-%d %H:%M}, {evaluation.state}"
    )


def document(run: Run, comparison: Comparison | None, lines: Sequence[Line]) -> dict[str, Any]:
    """A run as JSON: a file of it can be a baseline."""
    from pilotis.batch.gate import exit_code
    from pilotis.batch.record import document as recorded

    found = recorded(*run)
    if comparison:
        found["comparison"] = comparison_document(comparison)
    if lines:
        told = [asdict(line) | {"verdict": line.verdict, "says": line.says()} for line in lines]
        found["gate"] = {"exit_code": exit_code(lines), "lines": told}
    return found


def comparison_document(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON."""
    return {
        "before": asdict(found.before),
        "after": asdict(found.after),
        "shared": found.shared,
        "only_before": found.only_before,
        "only_after": found.only_after,
        "settings": {name: {"before": was, "after": now} for name, (was, now) in found.settings.items()},
        "changes": [
            {"name": one.name, "before": one.before, "after": one.after, **asdict(one.test), "verdict": one.verdict}
            for one in found.changes
        ],
        "moved": [{"id": after.id, "question": after.question, "change": delta} for _, after, delta in found.moved],
    }


def _print_worst(rows: Sequence[Judged]) -> None:
    worst = [row for row in worst_first(rows) if row.error or score(row) < 1][:WORST]
    if worst:
        shown = (
            (row.id, _short(row.question), rank(row), _short(row.error or row.answer), _short("; ".join(row.wanted)))
            for row in worst
        )
        output.table(("id", "question", "rank", "answer", "expected"), shown, title="\nworst first")


def _paired_with(found: Comparison) -> str:
    told = f"compared with {found.before.id[:8]} of {found.before.at:%Y-%m-%d %H:%M} over {found.shared} questions"
    for count, where in ((found.only_before, "that run"), (found.only_after, "this one")):
        told += f"; {count} were asked in {where} only" if count else ""
    return told


def _cells(name: str, found: Mapping[str, Any]) -> tuple[str, str, int]:
    low, high = (_plain(name, {"value": found[bound]}) for bound in ("low", "high"))
    return _plain(name, found), f"{low} to {high}", found["n"]


def _with_interval(name: str, found: Mapping[str, Any]) -> str:
    if name not in found:
        return ""
    value, interval, n = _cells(name, found[name])
    return f"{value} ({interval})" if n >= LEAST_FOR_INTERVAL else value


def _plain(name: str, found: Mapping[str, Any] | None) -> str:
    return "" if found is None else plain(name, found["value"])


def _change(name: str, comparison: Comparison | None) -> tuple[str, ...]:
    if comparison is None:
        return ()
    change = next((one for one in comparison.changes if one.name == name), None)
    if change is not None:
        return _plain(name, {"value": change.before}), _signed(change), p_value(change.test.p), _verdict(change)
    before, after = (run.figures.get("all", {}).get(name) for run in (comparison.before, comparison.after))
    if before is None or after is None:
        return ("", "", "", "")
    moved = after["value"] - before["value"]
    return _plain(name, before), f"{'-' if moved < 0 else '+'}{plain(name, abs(moved))}", "", ""


def _verdict(change: Change) -> str:
    return f"{SIGN.get(change.verdict, '')} {change.verdict}".strip()


def _compared(change: Change) -> tuple[str, ...]:
    test = change.test
    before, after, low, high = (
        _plain(change.name, {"value": value}) for value in (change.before, change.after, test.low, test.high)
    )
    moved = f"{test.up} / {test.down}"
    return change.name, before, after, _signed(change), f"{low} to {high}", p_value(test.p), moved, _verdict(change)


def _signed(change: Change) -> str:
    shown = _plain(change.name, {"value": abs(change.test.effect)})
    return f"{'-' if change.test.effect < 0 else '+'}{shown}"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SHOWN_CHARACTERS else plain[: SHOWN_CHARACTERS - 1] + "…"
