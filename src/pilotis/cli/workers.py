"""The workers of a data folder: who starts them, and `pilotis worker` for those who run their own servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from pilotis.cli import output, session
from pilotis.cli.children import Children, die_with_parent

if TYPE_CHECKING:
    from pilotis.derive.plan import Env, Plan
    from pilotis.embedded import Addresses
    from pilotis.wiring import Settings


class Workers(Children):
    """Call `watch()` now and then, from the thread that started them: it starts again what died, our own servers included."""

    def __init__(self, environ: Mapping[str, str], log: Path, data: Path | None) -> None:
        super().__init__(environ, log)
        self._data = data

    def watch(self) -> None:
        from pilotis import embedded

        if self._data:
            embedded.revive(self._data)
        super().watch()


class Watched(Protocol):
    """Processes that somebody has to look after; see `Workers`."""

    log: Path

    def watch(self) -> None: ...


class Indexers:
    """Both workers, from the first document on that waits for them: a call that finds nothing new starts none."""

    def __init__(self, start: Callable[[], Workers], log: Path) -> None:
        self.log = log
        self._start = start
        self._workers: Workers | None = None

    def begin(self) -> None:
        """From the thread that watches them. Twice does no harm."""
        self._workers = self._workers or self._start()

    def watch(self) -> None:
        if self._workers:
            self._workers.watch()


class QueueName(StrEnum):
    """What a worker works on."""

    INGEST = "ingest"
    EMBED = "embed"
    UPKEEP = "upkeep"
    SCHEDULE = "schedule"
    EVAL = "eval"


@contextmanager
def running(given: Settings, plan: Plan, env: Env, addresses: Addresses, *, all_day: bool = False) -> Iterator[Workers]:
    """The workers as children of this process, for as long as the block lasts: those that index, and `all_day` those that look after.

    Every program that needs documents indexed starts its own. On one data folder one of each works; the others wait for its lock
    and take over at once should it go away.
    """
    from pilotis import wiring

    log = log_of(wiring.data_folder(given, plan, env))
    with Workers(wiring.child_environ(given, plan, env, addresses), log, addresses.data) as started:
        for queue in _started(plan, env, all_day=all_day):
            started.start(f"the {queue} worker", "pilotis.tasks", queue, "--alone")
        yield started


def _started(plan: Plan, env: Env, *, all_day: bool) -> Iterator[QueueName]:
    """Evaluations wait for a worker of their own: pilotis worker eval."""
    yield from (QueueName.INGEST, QueueName.EMBED)
    if all_day:
        yield QueueName.UPKEEP
        if env.snapshot is not None or any(origin.every_s is not None for origin in plan.sources_of(env.name)):
            yield QueueName.SCHEDULE


def log_of(data: Path) -> Path:
    """Where they say what they do."""
    return data / "logs" / "workers.log"


def worker(
    ctx: typer.Context,
    queue: Annotated[
        QueueName,
        typer.Argument(
            help="Parse documents (ingest), embed their passages (embed), find what was lost (upkeep), "
            "do what the contract has a time for (schedule), run evaluations (eval)."
        ),
    ],
) -> None:
    """Run one worker in the foreground until SIGTERM: for servers of your own. Run as many as you need."""
    from pilotis import wiring

    given, plan, env = session.load(output.options(ctx))
    with wiring.stack(given, plan, env) as addresses:
        command = [sys.executable, "-m", "pilotis.tasks", queue.value]
        environ = wiring.child_environ(given, plan, env, addresses)
        if not given.is_embedded:
            os.execve(sys.executable, command, environ)  # noqa: S606 - ours; one process is what a supervisor expects
        raise typer.Exit(_attended(command, environ))


def _attended(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run it until it ends, or until we are asked to end, which it is then asked too; its exit code.

    It is in a group of its own, so that Ctrl-C reaches it once, by us, and the kernel asks it to end should we be killed.
    """
    import subprocess

    from pilotis.cli.up import interruptible

    with interruptible():
        child = subprocess.Popen(  # noqa: S603 - ours
            command,
            env=environ,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            return child.wait()
