"""Progress of `pilotis ingest` and `pilotis sync`: bars in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pilotis.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LINE_EVERY_S = 10.0
LONGEST_REASON = 80


class Progress:
    """How many of `total` files are stored, indexed and failed, with rate and time left. On stderr; nothing where `quiet`."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._quiet = quiet
        self._console = output.err()
        self._bars: Bars | None = None
        self._began = self._said = time.monotonic()
        self._waits_for = ""

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._bars = _bars(self._console)
            self._bars.add_task("stored", total=self._total, said="")
            self._bars.add_task("indexed", total=self._total, said="")
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars:
            self._bars.stop()

    def expect(self, total: int) -> None:
        """How many there are, where that becomes known on the way."""
        self._total = total
        if self._bars:
            for task in self._bars.task_ids:
                self._bars.update(task, total=total)

    def show(self, *, stored: int, indexed: int, failed: int) -> None:
        if self._bars:
            stored_task, indexed_task = self._bars.task_ids
            self._bars.update(stored_task, completed=stored)
            self._bars.update(indexed_task, completed=indexed + failed, said=self._told(failed))
        elif not self._quiet and time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            rate = (indexed + failed) / (self._said - self._began)
            left = f", about {(self._total - indexed - failed) / rate:.0f} s left" if rate else ""
            output.note(f"{stored}/{self._total} stored, {indexed} indexed, {failed} failed, {rate:.1f} files/s{left}")

    def waits_for(self, reason: str | None) -> None:
        """Show why documents wait; a new reason is also said once where there are no bars."""
        if reason and reason != self._waits_for and not self._bars and not self._quiet:
            output.note(f"waiting: {reason}")
        self._waits_for = reason or ""

    def _told(self, failed: int) -> str:
        from rich.markup import escape

        told = f"[red]{failed} failed[/]" if failed else ""
        return f"{told} [yellow]waiting: {escape(self._waits_for[:LONGEST_REASON])}[/]" if self._waits_for else told


def _bars(console: Any) -> Bars:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f} files/s" if speed else "")

    return Bars(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
        console=console,
        speed_estimate_period=30,
    )


class Steps:
    """What is being done and how much of it is done; call `tell`. On stderr; nothing where `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = output.err()
        self._bars: Bars | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn())
            self._bars = Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console, transient=True)
            self._bars.add_task("", total=None)
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars:
            self._bars.stop()

    def tell(self, what: str, done: int, total: int) -> None:
        if self._bars:
            self._bars.update(self._bars.task_ids[0], description=what, completed=done, total=total)
        elif not self._quiet and time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            output.note(f"{what}: {done:,} of {total:,}")
