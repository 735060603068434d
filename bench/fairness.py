"""Turns in a queue in which one business unit has put 100,000 documents.

    python bench/fairness.py SOURCE [--documents 100000] [--units 1000] [--json]

SOURCE is a folder with a Markdown file, which all of the crowd's documents hold. Their rows are inserted directly. Then: the time of
what a worker asks the database for its next work (bar: under 5 ms each), as EXPLAIN ANALYZE tells it and undone every time, with the
statistics that the tables had before and with new ones; the time of counting what waits; and how long one file of another unit takes to
be indexed by real workers meanwhile (bar: seconds). Last, as many documents of `--units` business units.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from common import parser, private_stack, report
from pilotis.adapters.postgres.queries import statements
from pilotis.batch.ingest import receive
from pilotis.cli import workers
from pilotis.derive.plan import Env
from pilotis.ports import Deps
from pilotis.wiring import open_deps
from question import connect

TIMES = 20
LEASE_S = 30.0
PATIENCE_S = 300.0
DRAFTS = 3
"""Passages of each document of the crowd."""
FILL = """
INSERT INTO document (id, bu, collection, name, sha256, size, media_type, metadata, next_try_at)
SELECT gen_random_uuid(), 'crowd' || n %% %(units)s, 'c', 'document ' || n, sha256, size, media_type, '{}', now() + n * interval '1 us'
FROM generate_series(1, %(documents)s) AS n, (SELECT * FROM document WHERE bu = 'one' LIMIT 1) AS model
"""
STAGE = """
INSERT INTO draft (document_id, version, ordinal, passage_id, text, indexed_text, headings, start_char, end_char, language, terms, weights)
SELECT document.id, 1, n, document.id || '-' || n, repeat('Words of a passage. ', 40), repeat('Words of a passage. ', 40), '{}', 0, 800, 'en',
       ARRAY(SELECT generate_series(1, 60)), '{1:1,2:1,3:1}/1000000000'
FROM document, generate_series(1, %(drafts)s) AS n WHERE bu LIKE 'crowd%%'
"""
CLAIM = (statements("documents")["claim"], {"lease_s": LEASE_S})
PENDING = (statements("passages")["pending"], {"limit": 128, "share": None, "lease_s": LEASE_S})
WAITING: tuple[str, dict[str, Any]] = (statements("backlog")["waiting"], {})

Row = dict[str, object]


async def timed(url: str, what: str, asked: tuple[str, dict[str, Any]], *, bar: str = "") -> Row:
    """Milliseconds of the statement by itself, over several times."""
    statement, fields = asked
    times = []
    async with await connect(url) as connection:
        for _ in range(TIMES):
            async with connection.transaction(force_rollback=True):
                told = await connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.encode(), fields)
                plan: Any = (await told.fetchone() or ({},))[0][0]
            times.append(plan["Execution Time"] + plan["Planning Time"])
    return {"what": what, "p50 ms": statistics.median(times), "most ms": max(times), "bar": bar}


async def run(
    url: str,
    source: Path,
    env: Env,
    deps: Deps,
    start: Callable[[], AbstractContextManager[object]],
    *,
    documents: int,
    units: int,
) -> list[Row]:
    model = next(iter(sorted(source.rglob("*.md"), key=lambda path: path.stat().st_size)), None)
    if model is None:
        sys.exit(f"{source} holds no Markdown file")
    rows: list[Row] = []

    async def lonely(name: str, what: str, bar: str = "") -> Row:
        with start():
            await indexed(model, f"warm {name}", env, deps)
            return {"what": what, "s": await indexed(model, name, env, deps), "bar": bar}

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        rows.append(await lonely("first", "one file, nothing else waits"))
        for number in (1, units):
            await connection.execute("DELETE FROM document WHERE bu LIKE 'crowd%'")
            await connection.execute(FILL, {"documents": documents, "units": number})
            whose = f"{documents:,} documents of {number:,} unit{'s' * (number > 1)}"
            for known in ("old statistics", "new statistics"):
                rows.append(await timed(url, f"claim, {whose}, {known}", CLAIM, bar="under 5 ms"))
                await connection.execute("ANALYZE document")
            rows.append(await timed(url, f"count of what waits, {whose}", WAITING))
            if number == 1:
                rows.append(await lonely("second", f"one file beside {whose}", "seconds"))
            await connection.execute("DELETE FROM draft")
            await connection.execute(STAGE, {"drafts": DRAFTS})
            await connection.execute("UPDATE document SET state = 'embedding', staged = '{}' WHERE bu LIKE 'crowd%'")
            for known in ("old statistics", "new statistics"):
                rows.append(await timed(url, f"pending, {whose} cut, {known}", PENDING, bar="under 5 ms"))
                await connection.execute("ANALYZE document, draft")
            rows.append(await timed(url, f"count of what waits, {whose} cut", WAITING))
            if number == 1:
                rows.append(await lonely("third", f"one file beside {whose} cut", "seconds"))
    return rows


async def indexed(path: Path, name: str, env: Env, deps: Deps) -> float:
    """Seconds from sending one small file of a unit that nothing else waits for, to its being found."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.md")
        copy.write_text(path.read_text(encoding="utf-8") + f"\n\nThe {name} of them.\n", encoding="utf-8")
        began = time.perf_counter()
        document, _ = await receive(
            copy, env, deps, bu="one", collection="c", name=name, media_type="text/markdown", metadata={}
        )
    while (state := (await deps.documents.get("one", document.id)).state) != "indexed":
        if state == "failed" or time.perf_counter() - began > PATIENCE_S:
            sys.exit(f"the {name} file: {state} after {time.perf_counter() - began:.0f} s")
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


def main() -> None:
    options = parser(__doc__)
    options.add_argument("source", type=Path)
    options.add_argument("--documents", type=int, default=100_000)
    options.add_argument("--units", type=int, default=1000)
    asked = options.parse_args()
    with private_stack() as (given, plan, env, addresses):

        async def go() -> list[Row]:
            start = partial(workers.running, given, plan, env, addresses)
            async with open_deps(given, plan, env, addresses=addresses, asks=False, embeds=False) as deps:
                url = addresses.database_url
                return await run(url, asked.source, env, deps, start, documents=asked.documents, units=asked.units)

        rows = asyncio.run(go())
    report(f"Turns in the queue, {asked.documents:,} documents waiting", rows, as_json=asked.json)


if __name__ == "__main__":
    main()
