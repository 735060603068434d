"""What the online plane is held against, as processes of their own.

    python bench/bare.py post --port N                             a bare FastAPI POST, on the server and the settings of the API
    python bench/bare.py parts QUESTIONS --workers 16 --seconds 5  embedding and SQL alone; prints how many, as JSON

`parts` reads the addresses of a running stack from the environment, as the API does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from pilotis import wiring
from pilotis.api.gate import Gate
from pilotis.api.serve import run, serve
from question import connect, parts


class Asked(BaseModel):
    question: str
    top_k: int = 5
    stream: bool = False


app = FastAPI()


@app.post("/")
async def post(asked: Asked) -> dict[str, object]:
    return {"answer": asked.question, "found": True, "language": "en", "cost_eur": "0"}


async def run_parts(questions: list[str], *, workers: int, seconds: float) -> dict[str, float]:
    """Each worker embeds a question and sends the statement, over a connection of its own, one after the other."""
    given = wiring.settings()
    plan, env = wiring.load_plan(given)
    texts = itertools.cycle(questions)
    done = 0
    with wiring.stack(given, plan, env) as addresses:
        async with wiring.open_deps(given, plan, env, addresses=addresses, asks=False) as deps, AsyncExitStack() as opened:
            connections = [await opened.enter_async_context(await connect(addresses.database_url)) for _ in range(workers)]

            async def work(n: int, ends: float) -> None:
                nonlocal done
                while time.perf_counter() < ends:
                    await parts(next(texts), env.top_k, deps, connections[n])
                    done += 1

            for wanted_s in (seconds / 4, seconds):
                done, began, began_cpu_s = 0, time.perf_counter(), time.process_time()
                async with asyncio.TaskGroup() as group:
                    for n in range(workers):
                        group.create_task(work(n, began + wanted_s))
                took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu_s
    return {"requests": done, "seconds": took_s, "cpu_s": cpu_s}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = options.add_subparsers(dest="kind", required=True)
    posts = kinds.add_parser("post")
    posts.add_argument("--port", type=int, required=True)
    alone = kinds.add_parser("parts")
    alone.add_argument("questions", type=Path)
    alone.add_argument("--workers", type=int, default=16)
    alone.add_argument("--seconds", type=float, default=5)
    given = options.parse_args()
    if given.kind == "post":
        run(serve(app, Gate(1000), host="127.0.0.1", port=given.port, drain_s=1))
    else:
        asked = [json.loads(line)["question"] for line in given.questions.read_text().splitlines()]
        print(json.dumps(asyncio.run(run_parts(asked, workers=given.workers, seconds=given.seconds))))


if __name__ == "__main__":
    main()
