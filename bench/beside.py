"""Questions while documents are indexed at full speed, to the same questions while nothing else is done.

    python bench/beside.py SOURCE [--size 10000] [--seconds 15] [--rounds 5] [--batch-cores 1] [--json]

One API process and both workers on one stack, each in a session of its own, as `pilotis up` starts them; the workers may use the last
so many cores of the machine, everything else all of them. wrk asks uncached extractive questions over 4 connections with pauses
between. Idle and busy rounds take turns on the same processes: idle is a pause of the queues. Of a busy round, the passages that were
indexed meanwhile prove that ingestion ran. The bar: p95 at most 1.5 times that of idle rounds, with batches on one of two cores.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg

from common import parser, report, spent_s
from online import corpus
from pilotis.batch.ingest import receive
from pilotis.cli.children import Child, Children
from pilotis.ports import Deps
from pilotis.ports.backlog import WorkQueue
from pilotis.wiring import open_deps
from serving import Ground, ground, middle, on_cores, require_wrk

LOAD = "load"
"""The business unit whose documents are indexed meanwhile."""
QUEUES: tuple[WorkQueue, ...] = ("ingest", "embed")
CONNECTIONS, PAUSE_MS = 4, 100.0
BYTES_PER_PASSAGE, PASSAGES_PER_S = 800, 150
"""Roughly of a passage, and above what two cores embed: a busy round never runs out of documents."""
QUIET_S = 2.0
DRAIN_TRIES, RESTING = 60, 0.01
"""The second is the share of a core below which the workers rest."""
NEIGHBOURS = 1.0
"""Cores that may be busy in an idle round, questions included: with more, who is measured waits for strangers."""
SUFFIXES = {".md": "text/markdown", ".html": "text/html"}

Round = dict[str, float]


@contextmanager
def workers(on: Ground, cores: set[int]) -> Iterator[list[psutil.Process]]:
    """One of each queue, on these cores."""
    with Children(on.environ("miss"), on.folder / "workers.log") as started:
        command = (sys.executable, "-P", "-m", "pilotis.tasks")
        tied = [started.run(Child(f"the {queue} worker", on_cores(cores, [*command, queue]))) for queue in QUEUES]
        yield [psutil.Process(child.pid) for child in tied]


class Load:
    """Documents for the workers, and the switch that makes a round idle or busy."""

    def __init__(self, on: Ground, deps: Deps, source: Path) -> None:
        self._on, self._deps = on, deps
        files = sorted(path for path in source.rglob("*") if path.suffix in SUFFIXES)
        if not files:
            sys.exit(f"{source} holds no {' or '.join(SUFFIXES)} file")
        self._files = itertools.cycle(files)
        self._sent = 0

    async def pause(self) -> None:
        until = datetime.now(UTC) + timedelta(hours=1)
        for queue in QUEUES:
            await self._deps.backlog.pause(queue, "*", until=until, reason="an idle round")

    async def resume(self) -> None:
        await self._deps.backlog.resume()
        for queue in QUEUES:
            await self._deps.queue.nudge(queue)

    async def send(self, seconds: float) -> None:
        """Documents enough for that long, each under a name of its own."""
        left = seconds * PASSAGES_PER_S * BYTES_PER_PASSAGE
        while left > 0:
            path = next(self._files)
            self._sent += 1
            name, media = f"{self._sent}-{path.name}", SUFFIXES[path.suffix]
            await receive(path, self._on.env, self._deps, bu=LOAD, collection="c", name=name, media_type=media, metadata={})
            left -= path.stat().st_size

    async def indexed(self) -> int:
        """Passages that have their vector."""
        async with await psycopg.AsyncConnection.connect(self._on.addresses.database_url) as connection:
            counted = await connection.execute(
                "SELECT (SELECT count(*) FROM entry WHERE bu = %s) + (SELECT count(*) FROM draft WHERE embedding IS NOT NULL)",
                (LOAD,),
            )
            return int((await counted.fetchone() or (0,))[0])


@asynccontextmanager
async def busy(load: Load, started: Sequence[psutil.Process], *, seconds: float, is_busy: bool) -> AsyncIterator[Round]:
    """A round of either kind; what it yields is filled in the end."""
    found: Round = {}
    if is_busy:
        await load.send(seconds + QUIET_S)
        await load.resume()
    await asyncio.sleep(QUIET_S)
    done, began, used = await load.indexed(), time.perf_counter(), _machine_s()
    yield found
    took_s = time.perf_counter() - began
    found["cores"] = (_machine_s() - used) / took_s
    found["passages"] = (await load.indexed() - done) / took_s
    await load.pause()
    await _drained(started)


async def _drained(started: Sequence[psutil.Process]) -> None:
    """Wait until the workers rest: what they had in hand as the queues were paused would fall into the idle round."""
    for _ in range(DRAIN_TRIES):
        used = sum(map(spent_s, started))
        await asyncio.sleep(QUIET_S)
        if sum(map(spent_s, started)) - used < RESTING * QUIET_S:
            return


async def run(on: Ground, source: Path, *, size: int, seconds: float, rounds: int, batch_cores: int) -> list[dict[str, object]]:
    asked = await corpus(on, source, size=size)
    key = await asyncio.to_thread(on.secret)
    bodies = on.bodies("miss", [{"question": text} for text in asked])
    api = await asyncio.to_thread(on.api, "miss")
    cores = set(sorted(on.others)[-batch_cores:])
    idle: list[Round] = []
    full: list[Round] = []
    with workers(on, cores) as started:
        async with open_deps(on.settings, on.plan, on.env, addresses=on.addresses, asks=False, embeds=False) as deps:
            load = Load(on, deps, source)

            def ask(for_s: float) -> Round:
                return on.wrk(api, "/v1/ask", bodies, key, connections=CONNECTIONS, seconds=for_s, pause_ms=PAUSE_MS)

            for n in range(rounds + 1):
                for kept, is_busy in ((idle, False), (full, True)):
                    async with busy(load, started, seconds=seconds, is_busy=is_busy) as found:
                        said = await asyncio.to_thread(ask, seconds)
                    if n:  # the first of each warms everything up
                        kept.append(said | found)
                        print(f"{'busy' if is_busy else 'idle'}: {kept[-1]}", file=sys.stderr)
            resident = max(worker.memory_info().rss for worker in started) / 2**20
    await asyncio.to_thread(on.end, api)
    return [*_rows(idle, full), {"what": "memory of the larger worker", "MB": resident}]


def _rows(idle: list[Round], full: list[Round]) -> list[dict[str, object]]:
    names = {"rate": "questions/s", "p50_ms": "p50 ms", "p95_ms": "p95 ms", "cpu_ms": "CPU ms each"}
    names |= {"passages": "passages/s", "cores": "cores busy, the whole machine"}
    rows: list[dict[str, object]] = [
        {"what": what} | {shown: middle(found, name) for name, shown in names.items()}
        for what, found in (("idle", idle), ("during ingestion", full))
    ]
    ratio: dict[str, object] = {"what": "ratio, the median of neighbouring rounds"}
    for name in ("p50_ms", "p95_ms"):
        pairs = [{"ratio": beside[name] / alone[name]} for alone, beside in zip(idle, full, strict=True)]
        ratio[names[name]] = middle(pairs, "ratio")
    rows.append(ratio | {"bar": "p95 at most 1.5"})
    if any(not beside["passages"] for beside in full):
        rows.append({"what": "NO MEASURE: in a busy round no batch was indexed; give it more --seconds, or a quieter machine"})
    if any(alone["passages"] for alone in idle):
        rows.append({"what": "NO MEASURE: passages were indexed in an idle round"})
    if middle(idle, "cores") > NEIGHBOURS:
        rows.append({"what": f"NO MEASURE: neighbours kept {middle(idle, 'cores'):.1f} cores busy in idle rounds"})
    return rows


def _machine_s() -> float:
    """Processor time that the whole machine has used."""
    user, nice, system, _, _, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("source", type=Path)
    options.add_argument("--size", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--batch-cores", type=int, default=1)
    given = options.parse_args()
    require_wrk()
    with ground(shared=True) as shared:
        on = replace(shared, env=replace(shared.env, name="miss"))
        rows = asyncio.run(
            run(on, given.source, size=given.size, seconds=given.seconds, rounds=given.rounds, batch_cores=given.batch_cores)
        )
    report(f"Questions beside ingestion, batches on {given.batch_cores} of {len(on.others)} cores", rows, as_json=given.json)


if __name__ == "__main__":
    main()
