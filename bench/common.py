"""What the benches share: a private stack, a machine to name, sets to read, results to print."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import platform
import statistics
import sys
import tempfile
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg

from pilotis.derive.plan import Env, Plan
from pilotis.embedded import Addresses
from pilotis.ports import Deps
from pilotis.wiring import Settings, load_plan, open_deps, settings, stack

CORES = len(os.sched_getaffinity(0))
"""Of the machine: a bench may confine itself later."""


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


@contextmanager
def private_stack(contract: str = "") -> Iterator[tuple[Settings, Plan, Env, Addresses]]:
    """An embedded stack in a temporary folder, all of it gone afterwards; for the first env of `contract`, else the built-in dev."""
    with tempfile.TemporaryDirectory(prefix="pilotis-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        # The folder of the bench is where no contract lies: the built-in one is measured.
        env_name = "dev"
        if contract:
            (Path(folder) / "pilotis.toml").write_text(contract)
            env_name = next(iter(tomllib.loads(contract)["envs"]))
        given = settings(env=env_name, data=Path(folder) / "env", environ={}, folder=Path(folder))
        plan, env = load_plan(given)
        with stack(given, plan, env) as addresses:
            yield given, plan, env, addresses


Opened = tuple[Plan, Env, Addresses, Deps]


def measured(work: Callable[[Opened], Awaitable[None]]) -> None:
    """Run `work` with everything open on a private stack. The stack is sync: it starts before the event loop and ends after it."""
    with private_stack() as (given, plan, env, addresses):

        async def go() -> None:
            async with open_deps(given, plan, env, addresses=addresses) as deps:
                await work((plan, env, addresses, deps))

        asyncio.run(go())


@dataclass(frozen=True, slots=True)
class Set:
    """A judged set: `corpus.jsonl.gz`, `queries.jsonl.gz`, `qrels.tsv.gz` in one folder."""

    name: str
    corpus: list[dict[str, str]]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]


def read_set(folder: Path) -> Set:
    def lines(name: str) -> list[dict[str, str]]:
        with gzip.open(folder / name, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    relevant: dict[str, dict[str, int]] = {}
    with gzip.open(folder / "qrels.tsv.gz", "rt", encoding="utf-8") as file:
        next(file)
        for line in file:
            query, document, grade = line.rstrip("\n").split("\t")
            if int(grade) > 0:
                relevant.setdefault(query, {})[document] = int(grade)
    queries = {row["id"]: row["text"] for row in lines("queries.jsonl.gz")}
    return Set(name=folder.name, corpus=lines("corpus.jsonl.gz"), queries=queries, relevant=relevant)


def find_sets(data: Path) -> list[Path]:
    """The folders of `data` that hold a judged set; ends the program with the reason where there is none."""
    found = sorted(path.parent for path in data.glob("*/qrels.tsv.gz"))
    if not found:
        sys.exit(f"SKIPPED: {data} holds no set (a folder with corpus.jsonl.gz, queries.jsonl.gz and qrels.tsv.gz)")
    return found


def quantile_ms(seconds: Sequence[float], share: float) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[round(share * 100) - 1] * 1e3


def others_s(url: str) -> tuple[float, float]:
    """Processor seconds until now of our child that parses, and of Postgres with all its processes."""
    parsers = sum(spent_s(child) for child in psutil.Process().children() if "kreuzberg" in " ".join(child.cmdline()))
    with psycopg.connect(url) as connection:
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    assert postmaster
    ended = postmaster.cpu_times()
    servers = sum(spent_s(process) for process in [postmaster, *postmaster.children(recursive=True)])
    return parsers, servers + ended.children_user + ended.children_system


def spent_s(process: psutil.Process) -> float:
    """Its processor seconds until now; 0 where it is gone."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def machine() -> dict[str, str]:
    """The date and the machine that figures belong to."""
    model = "unknown processor"
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else platform.machine()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{CORES} x {model}, Python {platform.python_version()}",
    }


def report(title: str, rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    """Print rows as a Markdown table, or everything as JSON."""
    facts = machine()
    if as_json:
        print(json.dumps({"bench": title, **facts, "rows": list(rows)}, indent=2, default=str))
        return
    print(f"\n{title} ({facts['date']}, {facts['machine']})\n")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(columns) + " |")
    print("|" + "|".join("---" for _ in columns) + "|")
    for row in rows:
        print("| " + " | ".join(_cell(row.get(name, "")) for name in columns) + " |")


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
