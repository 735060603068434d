"""Two processes' worth of remembered keys over one Redis: a revocation in one is known to the other at once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pilotis.adapters.keyring import CachedKeys
from pilotis.embedded import Addresses, binaries
from pilotis.errors import Unauthorised
from pilotis.testing.keys import MemoryKeys

BAD = "plt_" + "0" * 43


class Redis:
    """A Redis of one's own, to kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'r.sock'}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(binaries.find(None).redis), "--port", "0", "--unixsocket", str(self.folder / "r.sock"), "--save", ""]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    started = Redis(tmp_path)
    started.start()
    yield started
    started.kill()


@pytest.fixture
async def pair(stack: Addresses) -> AsyncIterator[tuple[CachedKeys, CachedKeys, MemoryKeys]]:
    stored = MemoryKeys()
    here, there = (CachedKeys(stored, stack.redis_url, namespace="pilotis:pair") for _ in range(2))
    await _until(here, lambda: here.is_listening)
    yield here, there, stored
    await here.close()
    await there.close()


async def test_a_revocation_elsewhere_is_known_at_once(pair: tuple[CachedKeys, CachedKeys, MemoryKeys]) -> None:
    here, there, stored = pair
    key, secret = await there.create("sales", "ci")
    for _ in range(5):
        await here.resolve(secret)
    assert stored.resolved <= 3  # once, beside those that waited for the channel
    await there.revoke(key.id)
    began = time.monotonic()
    with pytest.raises(Unauthorised, match="revoked"):
        await _refused(here, secret)
    assert time.monotonic() - began < 2  # the cache alone would hold it for five


async def test_a_rotation_elsewhere_is_known_at_once(pair: tuple[CachedKeys, CachedKeys, MemoryKeys]) -> None:
    here, there, _ = pair
    key, secret = await there.create("sales", "ci")
    await here.resolve(secret)
    _, fresh = await there.rotate(key.id, overlap_s=0)
    began = time.monotonic()
    with pytest.raises(Unauthorised, match="expired"):
        await _refused(here, secret)
    assert time.monotonic() - began < 2  # the cache alone would hold it for five
    assert (await here.resolve(fresh)).bu == "sales"


async def test_nothing_is_remembered_until_redis_is_back(redis: Redis) -> None:
    stored = MemoryKeys()
    keys = CachedKeys(stored, redis.url, namespace="t")
    await _until(keys, lambda: keys.is_listening)
    _, secret = await stored.create("sales", "ci")
    await keys.resolve(secret)
    before = stored.resolved
    await keys.resolve(secret)
    assert stored.resolved == before

    redis.kill()
    await _until(keys, lambda: not keys.is_listening)
    before = stored.resolved
    for _ in range(3):
        await keys.resolve(secret)
    assert stored.resolved == before + 3

    redis.start()
    await _until(keys, lambda: keys.is_listening)
    await keys.resolve(secret)
    before = stored.resolved
    await keys.resolve(secret)
    assert stored.resolved == before
    await keys.close()


async def test_a_redis_that_falls_silent_counts_as_away(redis: Redis) -> None:
    stored = MemoryKeys()
    keys = CachedKeys(stored, redis.url, namespace="t")
    await _until(keys, lambda: keys.is_listening)
    assert redis.process
    await asyncio.sleep(1.3)  # a ping is answered meanwhile
    assert keys.is_listening
    redis.process.send_signal(signal.SIGSTOP)
    await _until(keys, lambda: not keys.is_listening)
    key, _ = await stored.create("sales", "ci")
    await keys.revoke(key.id)  # stored all the same, and nobody hangs
    redis.process.send_signal(signal.SIGCONT)
    await _until(keys, lambda: keys.is_listening)
    await keys.close()


async def _refused(keys: CachedKeys, secret: str) -> None:
    for _ in range(1000):
        await keys.resolve(secret)
        await asyncio.sleep(0.001)


async def _until(keys: CachedKeys, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not condition():
            with suppress(Unauthorised):
                await keys.resolve(BAD)
            await asyncio.sleep(0.02)
