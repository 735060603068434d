"""The workers' edge: `python -m pilotis.tasks ingest|embed` runs one queue until SIGTERM.

One process, one event loop, one of each port. A message says nothing but "look": what is to be done stands in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

from pilotis import wiring
from pilotis.adapters.celery import serve
from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import parse_waiting, sweep
from pilotis.derive.plan import Env, Plan
from pilotis.errors import PilotisError, Transient
from pilotis.ports import Deps

JOBS: dict[Literal["ingest", "embed"], Callable[[Plan, Env, Deps], Coroutine[Any, Any, bool]]] = {
    "ingest": lambda _, env, deps: parse_waiting(env, deps),
    "embed": embed_waiting,
}
OPEN_PAUSE_S = 1.0

_log = logging.getLogger("pilotis.tasks")


def main(arguments: list[str] | None = None) -> int:
    """Serve one queue; the exit code."""
    parser = argparse.ArgumentParser(prog="pilotis.tasks", description=__doc__)
    parser.add_argument("queue", choices=sorted(JOBS))
    parser.add_argument("--alone", action="store_true", help="begin once no other such worker serves this data folder")
    asked = parser.parse_args(arguments)
    try:
        wiring.start_logs(f"{asked.queue}[{os.getpid()}]")
        given = wiring.settings()
        plan, env = wiring.load_plan(given)
        with (
            _lock(wiring.data_folder(given, plan, env), asked.queue, alone=asked.alone),
            wiring.stack(given, plan, env) as servers,
            asyncio.Runner() as runner,
        ):
            opened, deps = runner.run(
                _opened(lambda: wiring.open_deps(given, plan, env, addresses=servers, batch=True, asks=False))
            )
            try:
                if asked.queue == "ingest":
                    runner.run(_tidied(deps))
                job, namespace = JOBS[asked.queue], wiring.namespace(plan, env)
                serve(servers.redis_url, asked.queue, lambda: runner.run(job(plan, env, deps)), namespace=namespace)
            finally:
                runner.run(opened.__aexit__(None, None, None))
    except PilotisError as error:
        _log.error("%s → %s", error.message, error.remedy)
        return 1
    return 0


async def _opened(make: Callable[[], AbstractAsyncContextManager[Deps]]) -> tuple[AbstractAsyncContextManager[Deps], Deps]:
    """A worker that starts before its servers waits for them."""
    while True:
        opening = make()
        try:
            return opening, await opening.__aenter__()
        except Transient as error:
            _log.warning("%s; again in %g s", error.message, OPEN_PAUSE_S)
            await asyncio.sleep(OPEN_PAUSE_S)


async def _tidied(deps: Deps) -> None:
    try:
        await sweep(deps)
    except Transient as error:
        _log.warning("%s; what uploads left behind is looked for at the next start", error.message)


@contextmanager
def _lock(folder: Path, queue: str, *, alone: bool) -> Iterator[None]:
    """Hold the queue of this data folder. The system frees it whichever way its holder ends, and the next in line goes on."""
    if not alone:
        yield
        return
    path = folder / "run" / f"worker-{queue}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
