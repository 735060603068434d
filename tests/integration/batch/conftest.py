from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pilotis import wiring
from pilotis.batch.ingest import receive
from pilotis.derive.plan import Env, Plan
from pilotis.embedded import Addresses
from pilotis.errors import Transient
from pilotis.ports import Deps


class Town:
    """A data folder with its servers, and workers that can be killed."""

    def __init__(self, data: Path, given: wiring.Settings, plan: Plan, env: Env, addresses: Addresses) -> None:
        self.data, self.given, self.plan, self.env, self.addresses = data, given, plan, env, addresses
        self.environ = wiring.child_environ(given, plan, env, addresses)
        self.log = data / "workers.log"
        self._workers: list[subprocess.Popen[bytes]] = []

    def worker(self, queue: str, *options: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "pilotis.tasks", queue, *options], env=self.environ, stdout=log, stderr=log
            )
        self._workers.append(started)
        return started

    def end_workers(self) -> list[int]:
        """The exit codes, after SIGTERM."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
        codes = []
        for worker in self._workers:
            try:
                codes.append(worker.wait(20))
            except subprocess.TimeoutExpired:
                worker.kill()
                codes.append(worker.wait())
        self._workers.clear()
        return codes

    @asynccontextmanager
    async def deps(self, redis_url: str | None = None) -> AsyncIterator[Deps]:
        addresses = self.addresses._replace(redis_url=redis_url or self.addresses.redis_url)
        async with wiring.open_deps(self.given, self.plan, self.env, addresses=addresses) as deps:
            yield deps

    async def receive(self, deps: Deps, contents: Mapping[str, str], folder: Path, bu: str) -> dict[str, str]:
        """Store texts; id -> name."""
        ids = {}
        for name, text in contents.items():
            path = folder / "content"
            path.write_text(text)
            document, _ = await receive(
                path, self.env, deps, bu=bu, collection="default", name=name, media_type="text/markdown", metadata={}
            )
            ids[document.id] = name
        return ids

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.addresses.database_url) as connection:
            return connection.execute(statement.encode(), values or None).fetchall()

    async def settled(self, deps: Deps, bu: str, ids: Collection[str], within_s: float = 60.0) -> Mapping[str, int]:
        """The counts once every document is indexed or failed."""
        async with asyncio.timeout(within_s):
            while True:
                with contextlib.suppress(Transient):  # the database may be away meanwhile
                    counts = {str(state): n for state, n in (await deps.documents.counts(bu, list(ids))).items()}
                    if counts.get("indexed", 0) + counts.get("failed", 0) == len(ids):
                        return counts
                await asyncio.sleep(0.1)

    async def until_parsed(self, deps: Deps, bu: str, n: int) -> int:
        """How many were parsed, once it is `n` or more."""
        async with asyncio.timeout(60):
            while True:
                counts = await deps.documents.counts(bu)
                if (parsed := counts.get("indexed", 0) + counts.get("embedding", 0)) >= n:
                    return parsed
                await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    data = tmp_path_factory.mktemp("batch") / "data"
    given = wiring.settings(env="dev", data=data, folder=tmp_path_factory.mktemp("no-contract"))
    plan, env = wiring.load_plan(given)
    with wiring.stack(given, plan, env) as addresses:
        made = Town(data, given, plan, env, addresses)
        yield made
        made.end_workers()


@pytest.fixture(autouse=True)
def _no_worker_left(town: Town) -> Iterator[None]:
    yield
    town.end_workers()
