"""The workers' edge: `python -m pilotis.tasks ingest|embed|upkeep` runs one queue until SIGTERM.

One process, one event loop, one of each port. A message says nothing but "look": what is to be done stands in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pilotis import wiring
from pilotis.adapters import kreuzberg, niceness, sources
from pilotis.adapters.archive import daily
from pilotis.adapters.celery import ROUND_S, QueueName, serve
from pilotis.batch import runs
from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import parse_waiting
from pilotis.batch.sync import sync_due
from pilotis.batch.upkeep import keep_up
from pilotis.derive.plan import Env, Plan
from pilotis.derive.variant import to_evaluate
from pilotis.errors import PilotisError, Transient
from pilotis.online.whole import asker
from pilotis.ports import Deps

Job = Callable[[Plan, Env, Deps], Coroutine[Any, Any, bool]]

JOBS: dict[QueueName, Callable[[wiring.Settings], Job]] = {
    "ingest": lambda _: lambda _, env, deps: parse_waiting(env, deps),
    "embed": lambda _: embed_waiting,
    "upkeep": lambda _: keep_up,
    "schedule": lambda given: partial(_do_what_is_due, given),
    "eval": lambda given: partial(_evaluate, given),
}
EVERY_S: dict[QueueName, float] = {"upkeep": 30.0, "schedule": 60.0}
"""How often the stores are looked over for what was lost, and the contract for what is due."""
NICENESS = 10
"""Batches give way to questions where both want the processor."""
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
        niceness.give_way(NICENESS)
        given = wiring.settings()
        plan, env = wiring.load_plan(given)
        with (
            _lock(wiring.data_folder(given, plan, env), asked.queue, alone=asked.alone),
            wiring.stack(given, plan, env) as servers,
            asyncio.Runner() as runner,
        ):
            embeds = asked.queue == "embed"
            opening = partial(wiring.open_deps, given, plan, env, addresses=servers, batch=True, asks=False, embeds=embeds)
            opened, deps = runner.run(_opened(opening))
            try:
                job, namespace = JOBS[asked.queue](given), wiring.namespace(plan, env)
                every_s = EVERY_S.get(asked.queue, ROUND_S)
                env = wiring.in_force(env, deps.generation)
                turn = lambda: runner.run(_turn(job, plan, env, deps))  # noqa: E731
                serve(servers.queues_url, asked.queue, turn, namespace=namespace, every_s=every_s)
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


async def _turn(job: Job, plan: Plan, env: Env, deps: Deps) -> bool:
    """One turn of a queue. On another index this process has to begin again: it ends, and whoever watches over it starts it anew."""
    if (await deps.generations.active()).id != deps.generation.id:
        _log.info("another index generation is searched now: this worker ends, to begin again with its model")
        os.kill(os.getpid(), signal.SIGTERM)
        return False
    return await job(plan, env, deps)


async def _do_what_is_due(given: wiring.Settings, plan: Plan, env: Env, deps: Deps) -> bool:
    """Sources that have a time, and the daily snapshot; each by one process, however many look."""
    await sync_due(plan, env, deps, open_source=sources.opener(given.contract), guess=kreuzberg.media_type)
    if env.snapshot is not None:
        with wiring.stack(given, plan, env, prepare=False) as servers:
            await daily.snapshot_if_due(plan, env, database_url=servers.database_url, blobs=deps.blobs)
    return False


async def _evaluate(given: wiring.Settings, plan: Plan, env: Env, deps: Deps) -> bool:
    """Carry out the oldest run that waits, on ports of its own: its changes may ask for other models. True where there was one."""
    claimed = await deps.evaluations.claim(lease_s=runs.LEASE_S)
    if claimed is None:
        return False
    evaluation, order = claimed
    golden, changes, at_once = runs.ordered(evaluation, order)
    try:
        plan, env = to_evaluate(plan, env, changes)
        with wiring.stack(given, plan, env, prepare=False) as servers:
            async with (
                wiring.open_deps(given, plan, env, addresses=servers) as own,
                wiring.booked(own, env),
                runs.leased(evaluation, own.evaluations),
            ):
                ask = asker(env, plan, own, bu=evaluation.bu)
                await runs.carry_out(evaluation, golden, ask, own.evaluations, at_once=at_once, progress=_silent)
    except Transient:
        raise
    except PilotisError as error:
        _log.warning("run %s of %s failed: %s", evaluation.id, evaluation.golden, error.message)
        await runs.give_up(evaluation, error, deps.evaluations)
    return True


def _silent(_done: int, _failed: int) -> None:
    """Nobody watches."""


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
