"""Ingestion of real files through real workers, against the bare embedding of the same passages by the same model.

    python bench/ingest.py SOURCE [whole stages two] [--passages 2000] [--files 150] [--json]

SOURCE is a folder of Markdown and HTML files, or of judged sets (for `whole` alone).

whole   Files are received, parsed, cut, embedded and published by the Celery workers, the clock running from the first file to the last
        document visible. Bare: the same passages through the embedder alone, once the workers are gone. The bar: at least 0.85 of the
        bare rate; the memory of the workers flat. Only on a quiet machine: the workers give way to strangers, the bare model does not.
stages  The files as they are, one stage after the other in this process. Processor time is what counts, of this process, of the one that
        parses and of Postgres: it hardly depends on who else works on the machine. The bar: parsing, cutting and storing under 20 % of
        embedding.
two     One embedding worker on a core of its own, and two, on a core each, taking turns: what each embeds in a second of its own processor
        time, twice over, is what two would do where a core is free for each. The bar: at least 1.7 times one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Self
from unittest.mock import patch

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg

from common import others_s, parser, private_stack, report, spent_s
from pilotis.adapters.onnx import OnnxEmbedder
from pilotis.batch.embed import embed_waiting
from pilotis.batch.ingest import parse_waiting, receive
from pilotis.cli import workers
from pilotis.cli.children import Child, Children
from pilotis.derive.plan import Env
from pilotis.ports import Deps
from pilotis.rag.passage import cut
from pilotis.wiring import child_environ, open_deps
from synthetic import real_passages

BU, PER_FILE = "bench", 20
SUFFIXES = {".md": "text/markdown", ".html": "text/html"}
ROUNDS, PASSAGES_PER_S = 4, 60
"""The second is more than one core embeds."""
SMALL_BATCHES = """
name = "bench"
[perf]
batch_emb = 16
[envs.dev]
"""
"""What is embedded in a round is counted by whole batches."""

Row = dict[str, object]


async def ingest(folder: Path, env: Env, deps: Deps) -> float:
    """Seconds from the first file to the last document visible."""
    files = sorted(folder.iterdir())
    began = time.perf_counter()
    ids = []
    for path in files:
        document, _ = await receive(
            path, env, deps, bu=BU, collection="default", name=path.name, media_type="text/markdown", metadata={}
        )
        ids.append(document.id)
    while (counts := await deps.documents.counts(BU, ids)).get("indexed", 0) < len(ids):
        assert not counts.get("failed"), counts
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def bare(model: OnnxEmbedder, texts: list[str], batch: int) -> float:
    began = time.perf_counter()
    for start in range(0, len(texts), batch):
        await model.embed(texts[start : start + batch])
    return time.perf_counter() - began


def whole(source: Path, count: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, private_stack() as (given, plan, env, addresses):
        passages = real_passages(source, count)
        for n in range(0, len(passages), PER_FILE):
            sections = [f"## Section {n + i}\n\n{text}\n" for i, text in enumerate(passages[n : n + PER_FILE])]
            Path(folder, f"{n:06}.md").write_text("\n".join(sections), encoding="utf-8")

        async def work() -> float:
            async with open_deps(given, plan, env, addresses=addresses) as deps:
                await _warm(Path(folder), env, deps)
                return await ingest(Path(folder), env, deps)

        async def alone(texts: list[str]) -> float:
            async with open_deps(given, plan, env, addresses=addresses, batch=True) as deps:
                assert isinstance(deps.embedder, OnnxEmbedder)
                return await bare(deps.embedder, texts, env.batch_emb)

        with workers.running(given, plan, env, addresses), Memory(psutil.Process()) as memory:
            whole_s = asyncio.run(work())
        with psycopg.connect(addresses.database_url) as connection:
            texts = [
                row[0]
                for row in connection.execute("SELECT indexed_text FROM passage JOIN entry USING (key) WHERE bu = %s", (BU,))
            ]
        # Measured when the workers are gone, so that the model has the machine to itself, as the bar asks.
        bare_s = asyncio.run(alone(texts))
    files = -(-len(passages) // PER_FILE)
    return [
        {"what": "bare embedding", "passages": len(texts), "passages/s": len(texts) / bare_s},
        {
            "what": "whole ingestion",
            "passages": len(texts),
            "passages/s": len(texts) / whole_s,
            "documents/s": files / whole_s,
            "ratio": bare_s / whole_s,
        },
        *memory.rows(),
    ]


class Memory:
    """What the workers of a process hold while a block runs, twice a second."""

    def __init__(self, parent: psutil.Process) -> None:
        self._parent = parent
        self._held: dict[str, list[float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def rows(self) -> list[Row]:
        """MB: most of the second third of the time, most of the last."""
        found: list[Row] = []
        for name, held in sorted(self._held.items()):
            third = max(1, len(held) // 3)
            early, late = max(held[third : 2 * third], default=held[0]), max(held[-third:])
            found.append({"what": f"memory of the {name} worker", "MB": late, "MB more than in the third before": late - early})
        return found

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for child in self._parent.children():
                with suppress(psutil.Error):
                    command = child.cmdline()
                    if "pilotis.tasks" in command:
                        name = command[command.index("pilotis.tasks") + 1]
                        self._held.setdefault(name, []).append(child.memory_info().rss / 2**20)


@dataclass(slots=True)
class Clock:
    """Where the time of the stages goes: seconds by the wall, and of this process."""

    wall_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    own_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, stage: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        """The verb of a port, timed."""

        async def call(*arguments: Any, **named: Any) -> Any:
            began, began_own = time.perf_counter(), time.process_time()
            try:
                return await verb(*arguments, **named)
            finally:
                self.wall_s[stage] += time.perf_counter() - began
                self.own_s[stage] += time.process_time() - began_own

        return call

    def timed_cut(self, *arguments: Any, **named: Any) -> Any:
        """Runs in a thread: its own time alone."""
        began, began_own = time.perf_counter(), time.thread_time()
        found = cut(*arguments, **named)
        self.wall_s["cut"] += time.perf_counter() - began
        self.own_s["cut"] += time.thread_time() - began_own
        return found


class Timed:
    """A port whose verbs are timed where they belong to a stage."""

    def __init__(self, port: Any, clock: Clock, stages: Mapping[str, str]) -> None:
        self._port, self._clock, self._stages = port, clock, stages

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._clock.timed(self._stages[name], found) if name in self._stages else found


def stages(source: Path, count: int) -> list[Row]:
    files = sorted(path for path in source.rglob("*") if path.suffix in SUFFIXES)
    files = random.Random(7).sample(files, min(count, len(files)))
    if not files:
        sys.exit(f"{source} holds no {' or '.join(SUFFIXES)} file")
    clock = Clock()
    with private_stack() as (given, plan, env, addresses):

        async def work() -> tuple[Row, ...]:
            async with open_deps(given, plan, env, addresses=addresses, batch=True) as opened:
                deps = replace(
                    opened,
                    parser=Timed(opened.parser, clock, {"parse": "parse"}),
                    documents=Timed(opened.documents, clock, {"stage": "stage", "publish": "publish"}),
                    embedder=Timed(opened.embedder, clock, {"embed": "embed"}),
                )
                await opened.embedder.embed(["ready"])
                for path in files:
                    media = SUFFIXES[path.suffix]
                    name = str(path.relative_to(source))
                    await receive(path, env, deps, bu=BU, collection="c", name=name, media_type=media, metadata={})
                used = [others_s(addresses.database_url)]
                with patch("pilotis.batch.ingest.cut", clock.timed_cut):
                    while await parse_waiting(env, deps):
                        pass
                used.append(others_s(addresses.database_url))
                own = time.process_time()
                while await embed_waiting(plan, env, deps):
                    pass
                own = time.process_time() - own
                used.append(others_s(addresses.database_url))
                counts = await deps.documents.counts(BU)
            (parse_s, stage_s), (_, publish_s) = (
                [b - a for a, b in zip(before, after, strict=True)] for before, after in itertools.pairwise(used)
            )
            cpu = {
                "parse": parse_s,
                "cut": clock.own_s["cut"],
                "stage": clock.own_s["stage"] + stage_s,
                "embed": clock.own_s["embed"],
                "publish": max(0.0, own - clock.own_s["embed"]) + publish_s,
            }
            return tuple(_staged(cpu, clock.wall_s, addresses.database_url, counts))

        return list(asyncio.run(work()))


def _staged(cpu: Mapping[str, float], wall_s: Mapping[str, float], url: str, counts: Mapping[Any, int]) -> Iterator[Row]:
    with psycopg.connect(url) as connection:
        (passages,) = connection.execute("SELECT count(*) FROM entry WHERE bu = %s", (BU,)).fetchone() or (0,)
    for name, used_s in cpu.items():
        row: Row = {"what": name, "CPU s": used_s, "CPU ms a passage": used_s * 1e3 / max(1, passages)}
        yield row | {"to embedding": used_s / cpu["embed"], "wall s": wall_s[name]}
    around = sum(used_s for name, used_s in cpu.items() if name != "embed")
    yield {"what": "all but embed", "CPU s": around, "to embedding": around / cpu["embed"], "bar": "under 0.2"}
    found = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    yield {"what": f"{passages} passages; {found}"}


def two(source: Path, count: int, *, seconds: float, rounds: int) -> list[Row]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("SKIPPED: two workers want two cores")
    passages = real_passages(source, count)
    rates: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with private_stack(SMALL_BATCHES) as (given, plan, env, addresses), tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, **child_environ(given, plan, env, addresses)}
        texts = itertools.cycle(passages)

        async def fill() -> None:
            async with open_deps(given, plan, env, addresses=addresses, asks=False, embeds=False) as deps:
                for n in range(math.ceil((rounds + 1) * 3 * seconds * PASSAGES_PER_S / PER_FILE)):
                    path = Path(folder, f"{n}.md")
                    path.write_text("\n".join(f"## Section {n}.{i}\n\n{next(texts)}\n" for i in range(PER_FILE)))
                    await receive(
                        path, env, deps, bu=BU, collection="c", name=path.name, media_type="text/markdown", metadata={}
                    )
                while await parse_waiting(env, deps):
                    pass

        asyncio.run(fill())
        command = [sys.executable, "-P", "-m", "pilotis.tasks", "embed"]
        with Children(environ, Path(folder, "log")) as family:
            tied = [family.run(Child("an embed worker", ["taskset", "-c", str(core), *command])) for core in cores[-2:]]
            started = [psutil.Process(child.pid) for child in tied]
            time.sleep(seconds)
            for n in range(rounds):
                for number in (1, 2) if n % 2 else (2, 1):
                    started[1].send_signal(signal.SIGCONT if number == 2 else signal.SIGSTOP)
                    rates[number].append(_round(addresses.database_url, started[:number], seconds))
            started[1].send_signal(signal.SIGCONT)
    return _scaled(rates)


def _round(url: str, embedding: Sequence[psutil.Process], seconds: float) -> dict[str, float]:
    def embedded() -> int:
        asked = "SELECT (SELECT count(*) FROM entry) + (SELECT count(*) FROM draft WHERE embedding IS NOT NULL)"
        with psycopg.connect(url) as connection:
            return int((connection.execute(asked).fetchone() or (0,))[0])

    time.sleep(1)
    before, used, began = embedded(), sum(map(spent_s, embedding)), time.perf_counter()
    time.sleep(seconds)
    after, used = embedded(), sum(map(spent_s, embedding)) - used
    if after == before:
        sys.exit("no passage was embedded in a round: give it more --seconds")
    return {"wall": (after - before) / (time.perf_counter() - began), "own": (after - before) / used}


def _scaled(rates: Mapping[int, Sequence[Mapping[str, float]]]) -> list[Row]:
    middle = {(number, kind): median(found[kind] for found in rates[number]) for number in (1, 2) for kind in ("wall", "own")}
    rows: list[Row] = [
        {
            "what": f"{number} embedding worker{'s' * (number > 1)}, a core each",
            "passages/s": middle[number, "wall"],
            "passages a second of processor time": middle[number, "own"],
        }
        for number in (1, 2)
    ]
    ratio: Row = {"what": "two to one", "passages/s": middle[2, "wall"] / middle[1, "wall"]}
    ratio |= {"passages a second of processor time": 2 * middle[2, "own"] / middle[1, "own"], "bar": "at least 1.7"}
    return [*rows, ratio]


async def _warm(folder: Path, env: Env, deps: Deps) -> None:
    """One file of another unit, so that the workers are up and the model is loaded."""
    first = next(iter(sorted(folder.iterdir())))
    document, _ = await receive(
        first, env, deps, bu="warm", collection="c", name="warm.md", media_type="text/markdown", metadata={}
    )
    while (await deps.documents.get("warm", document.id)).state != "indexed":  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("source", type=Path)
    options.add_argument("which", nargs="*", default=["whole", "stages", "two"])
    options.add_argument("--passages", type=int, default=2000)
    options.add_argument("--files", type=int, default=150)
    options.add_argument("--seconds", type=float, default=15)
    given = options.parse_args()
    if "whole" in given.which:
        report("Ingestion", whole(given.source, given.passages), as_json=given.json)
    if "stages" in given.which:
        report("Ingestion by stage", stages(given.source, given.files), as_json=given.json)
    if "two" in given.which:
        rows = two(given.source, given.passages, seconds=given.seconds, rounds=ROUNDS)
        report("Embedding workers", rows, as_json=given.json)


if __name__ == "__main__":
    main()
