"""A provider's quota, shared by processes through a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from pilotis.adapters.redis import RedisMoney
from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.embedded import running
from pilotis.ports import Quota


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("pace") / "data") as addresses:
        yield addresses.redis_url


async def test_processes_together_keep_to_the_quota(url: str) -> None:
    env = derive(load.default()).env("dev")
    processes = [RedisMoney(url, env=env, namespace="pace", instance=str(n)) for n in range(3)]
    quota = Quota(tokens_per_min=60_000)  # 1,000 a second, 5 s of them ahead
    try:
        began, taken = time.monotonic(), 0
        while time.monotonic() - began < 1.5:
            for process in processes:
                if await process.pace.take("m", quota, tokens=500) == 0:
                    taken += 500
            await asyncio.sleep(0.01)
        assert 5_000 <= taken <= 5_000 + 1_000 * (time.monotonic() - began) + 2 * 500
        waits = [await processes[0].pace.take("m", quota, tokens=500) for _ in range(3)]
        assert 0 < max(waits) <= 0.5
        assert await processes[0].pace.take("another", quota, tokens=500) == 0
    finally:
        for process in processes:
            await process.close()


async def test_calls_count_too_and_a_rest_stops_everybody(url: str) -> None:
    env = derive(load.default()).env("dev")
    one, other = (RedisMoney(url, env=env, namespace="rest", instance=name) for name in ("one", "other"))
    try:
        quota = Quota(calls_per_min=60)
        assert [await one.pace.take("m", quota, tokens=1) for _ in range(6)] == [0.0] * 6
        assert 0 < await other.pace.take("m", quota, tokens=1) <= 1
        assert await other.pace.take("m", Quota(), tokens=10**9) == 0, "where there is no quota nothing is counted"
        await one.pace.rest("m", 30)
        assert 29 < await other.pace.take("m", Quota(), tokens=1) <= 30
    finally:
        await one.close()
        await other.close()
