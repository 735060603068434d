"""The workers of a data folder: who starts them, and `pilotis worker` for those who run their own servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


class QueueName(StrEnum):
    """What a worker works on."""

    INGEST = "ingest"
    EMBED = "embed"
    UPKEEP = "upkeep"
    EVAL = "eval"


@contextmanager
def running(given: Settings, plan: Plan, env: Env, addresses: Addresses) -> Iterator[Workers]:
    """The workers as children of this process, for as long as the block lasts.

    Every program that needs documents indexed starts its own. On one data folder one of each works; the others wait for its lock
    and take over at once should it go away.
    """
    from pilotis import wiring

    log = wiring.data_folder(given, plan, env) / "logs" / "workers.log"
    with Workers(wiring.child_environ(given, plan, env, addresses), log, addresses.data) as started:
        for queue in (QueueName.INGEST, QueueName.EMBED):  # evaluations wait for a worker of their own: pilotis worker eval
            started.start(f"the {queue} worker", "pilotis.tasks", queue, "--alone")
        yield started


def worker(
    ctx: typer.Context,
    queue: Annotated[
        QueueName,
        typer.Argument(
            help="Parse documents (ingest), embed their passages (embed), find what was lost and is due (upkeep), run evaluations (eval)."
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
