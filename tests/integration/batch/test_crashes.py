"""Whatever is killed, every acknowledged document is there once. Real Postgres, Redis, Celery workers and files."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from pilotis import embedded, wiring

if TYPE_CHECKING:
    from integration.batch.conftest import Town


def contents(n: int) -> dict[str, str]:
    return {
        f"{i}.md": f"# Report {i}\n\nThis is number{i}, about bridges and tolls. " + f"It has a sentence of its own{i}. " * 5
        for i in range(n)
    }


async def test_a_killed_ingest_worker_loses_and_doubles_nothing(town: Town, tmp_path: Path) -> None:
    async with town.deps() as deps:
        ids = await town.receive(deps, contents(60), tmp_path, "killed")
        victim = town.worker("ingest")
        town.worker("embed")
        parsed = await town.until_parsed(deps, "killed", 5)
        victim.kill()
        victim.wait()
        assert parsed < 60, "it was too quick to be killed half-way"
        town.worker("ingest")
        assert await town.settled(deps, "killed", ids) == {"indexed": 60}
        assert await deps.backlog.waiting() == []
    ((there, distinct),) = town.rows(
        "SELECT count(*), count(DISTINCT p.id) FROM passage p JOIN document d ON d.id = document_id WHERE bu = 'killed'"
    )
    ((counted, attempts),) = town.rows("SELECT sum(passages), max(attempts) FROM document WHERE bu = 'killed'")
    ((known,),) = town.rows("SELECT passages FROM corpus WHERE bu = 'killed'")
    assert there == distinct == counted == known
    assert attempts in {1, 2}


async def test_a_flushed_redis_costs_time_only(town: Town, tmp_path: Path) -> None:
    client = redis.Redis.from_url(town.addresses.redis_url)
    async with town.deps() as deps:
        ids = await town.receive(deps, contents(30), tmp_path, "flushed")
        client.flushall()
        town.worker("ingest")
        town.worker("embed")
        await town.until_parsed(deps, "flushed", 3)
        client.flushall()
        assert await town.settled(deps, "flushed", ids) == {"indexed": 30}
    client.close()


async def test_a_nudge_that_was_marked_and_never_sent_costs_seconds_only(town: Town, tmp_path: Path) -> None:
    """What is left of a process that was killed between the two."""
    client = redis.Redis.from_url(town.addresses.redis_url)
    async with town.deps() as deps:
        town.worker("ingest")
        town.worker("embed")
        await town.settled(deps, "heard", await town.receive(deps, contents(1), tmp_path, "heard"))
        await asyncio.sleep(1)  # the workers are idle, no message is on its way
        for queue in ("ingest", "embed"):
            client.set(f"{wiring.namespace(town.plan, town.env)}:unread:{queue}", 1, ex=60)
        ids = await town.receive(deps, contents(3), tmp_path, "unsent")
        assert await town.settled(deps, "unsent", ids, 20) == {"indexed": 3}
    client.close()


async def test_killed_servers_cost_time_only(town: Town, tmp_path: Path) -> None:
    """Postgres and Redis fall under the workers, which stay and go on."""
    async with town.deps() as deps:
        ids = await town.receive(deps, contents(30), tmp_path, "fallen")
        workers = [town.worker("ingest"), town.worker("embed")]
        await town.until_parsed(deps, "fallen", 3)
        servers = embedded.status(town.data)
        for pid in (servers.postgres.pid, servers.redis.pid):
            assert pid
            os.kill(pid, signal.SIGKILL)
        assert await town.settled(deps, "fallen", ids, 90) == {"indexed": 30}
        assert [worker.poll() for worker in workers] == [None, None]


async def test_an_upload_is_taken_while_redis_is_away(town: Town, tmp_path: Path) -> None:
    async with town.deps(redis_url="unix:///nowhere/redis.sock") as deps:
        began = time.monotonic()
        ids = await town.receive(deps, contents(5), tmp_path, "unheard")
        assert time.monotonic() - began < 10
        town.worker("ingest")
        town.worker("embed")
        assert await town.settled(deps, "unheard", ids) == {"indexed": 5}


async def test_a_worker_that_starts_sweeps_what_a_dead_upload_left(town: Town, tmp_path: Path) -> None:
    async with town.deps() as deps:
        paths = {age: tmp_path / age for age in ("old", "young")}
        digests = {}
        for age, path in paths.items():
            path.write_text(f"an {age} upload that died between storing and registering")
            digests[age], _ = await deps.blobs.put(path)
        os.utime(town.data / "blobs" / "unsettled" / digests["old"], (0, 0))
        town.worker("upkeep")
        async with asyncio.timeout(30):
            while await deps.blobs.exists(digests["old"]):  # noqa: ASYNC110 - another process deletes it
                await asyncio.sleep(0.05)
        assert await deps.blobs.exists(digests["young"])
        assert await deps.blobs.unsettled(older_than_s=0) == [digests["young"]]
        await deps.blobs.delete(digests["young"])


async def test_the_next_worker_takes_over_at_once(town: Town, tmp_path: Path) -> None:
    first = town.worker("ingest", "--alone")
    async with town.deps() as deps:
        await town.receive(deps, contents(2), tmp_path, "relay")
        await town.until_parsed(deps, "relay", 2)
        town.worker("ingest", "--alone")
        first.kill()
        first.wait()
        await town.receive(deps, {name: text + "more" for name, text in contents(2).items()}, tmp_path, "relay2")
        await town.until_parsed(deps, "relay2", 2)


def test_a_worker_that_is_asked_to_end_does(town: Town) -> None:
    town.log.write_text("")
    town.worker("ingest")
    town.worker("embed", "--alone")
    deadline = time.monotonic() + 60
    while town.log.read_text().count('"message":"ready"') < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    town.worker("embed", "--alone")
    time.sleep(2)  # it waits for the lock of the one before
    began = time.monotonic()
    assert town.end_workers() == [0, 0, -signal.SIGTERM]
    assert time.monotonic() - began < 10
