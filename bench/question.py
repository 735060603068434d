"""An uncached, extractive question over 10,000 passages, against the bare parts it is made of, in the same run.

    python bench/question.py SOURCE [--size 10000] [--json]

Bare parts: the ONNX embedding of the question, and the very SQL statement of the search sent by psycopg alone. The bar: the median
of the whole road (parse, embed, search, prune, extract, cite, settle) is at most 1.5 times their sum. The same road through
HTTP is measured beside it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg

from common import Opened, measured, parser, quantile_ms, report
from pilotis.adapters.postgres import PostgresPassages
from pilotis.online.answer import Ask, answer
from pilotis.ports import Deps, Generation, Query
from pilotis.rag.ranking import dense_weight
from synthetic import BU, grow, questions, real_passages

QUESTIONS, WARM_UP = 300, 50


async def run(source: Path, size: int, opened: Opened, *, as_json: bool) -> None:
    plan, env, addresses, deps = opened
    passages = real_passages(source)
    vectors = await deps.embedder.embed(passages)
    await asyncio.to_thread(grow, addresses.database_url, passages, vectors, size=size)
    asked = questions(passages, QUESTIONS)
    whole: list[float] = []
    embed: list[float] = []
    sql: list[float] = []
    stages: dict[str, list[float]] = {}
    async with await connect(addresses.database_url) as bare:
        # Interleaved, question by question: whatever else the machine does falls on all three alike.
        for n, text in enumerate(asked[:WARM_UP] + asked):
            alone = await parts(text, env.top_k, deps, bare)
            began = time.perf_counter()
            done = [event async for event in answer(Ask(bu=BU, text=text), env, plan, deps)][-1]
            if n < WARM_UP:
                continue
            whole.append(time.perf_counter() - began)
            embed.append(alone[0])
            sql.append(alone[1])
            for stage, spent_ms in done.answer.timings_ms.items():  # type: ignore[union-attr]
                stages.setdefault(stage, []).append(spent_ms / 1e3)
    bare_ms = quantile_ms(embed, 0.5) + quantile_ms(sql, 0.5)
    rows: list[dict[str, object]] = [
        {"what": "bare embedding", "p50 ms": quantile_ms(embed, 0.5)},
        {"what": "bare SQL", "p50 ms": quantile_ms(sql, 0.5)},
        {"what": "whole road", "p50 ms": quantile_ms(whole, 0.5), "ratio to the bare parts": quantile_ms(whole, 0.5) / bare_ms},
        *({"what": f"  of which {stage}", "p50 ms": quantile_ms(spent, 0.5)} for stage, spent in stages.items()),
    ]
    report(f"A question over {size} passages", rows, as_json=as_json)


async def connect(url: str) -> psycopg.AsyncConnection:
    """A connection of one's own, set as the product sets its."""
    bare = await psycopg.AsyncConnection.connect(url, autocommit=True)
    for setting in ("hnsw.ef_search = 64", "hnsw.iterative_scan = relaxed_order", "plan_cache_mode = force_custom_plan"):
        await bare.execute(f"SET {setting}".encode())
    return bare


async def parts(text: str, top_k: int, deps: Deps, bare: psycopg.AsyncConnection) -> tuple[float, float]:
    """Embed the question and send the statement of the search; the seconds of each."""
    began = time.perf_counter()
    vector = (await deps.embedder.embed([text]))[0]
    embedded_s = time.perf_counter() - began
    passages = PostgresPassages(None, Generation(id=1, model="", dimension=384), languages=("en", "fr"))  # type: ignore[arg-type]
    weight = dense_weight("en", deps.embedder.languages)
    fields = passages.parameters(Query(bu=BU, text=text, language="en", vector=vector, top_k=top_k, dense_weight=weight))
    began = time.perf_counter()
    await (await bare.execute(passages.statement, fields)).fetchall()
    return embedded_s, time.perf_counter() - began


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--size", type=int, default=10_000)
    options = arguments.parse_args()
    measured(lambda opened: run(options.source, options.size, opened, as_json=options.json))
