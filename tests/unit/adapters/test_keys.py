"""What is remembered of keys, and for how long; the channel that drops it is tested on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from pilotis.adapters import keyring
from pilotis.adapters.keyring import CachedKeys
from pilotis.errors import Transient, Unauthorised
from pilotis.ports import ApiKey
from pilotis.testing.keys import MemoryKeys

BAD = "plt_" + "0" * 43


class Slow(MemoryKeys):
    """Look-ups wait for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.at_once = self.most = 0
        self.failure: Exception | None = None

    async def resolve(self, secret: str) -> ApiKey:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            found: ApiKey | None
            try:
                found, refusal = await super().resolve(secret), None
            except Unauthorised as error:
                found, refusal = None, error
            await self.go.wait()
            if self.failure:
                raise self.failure
            if found is None:
                assert refusal
                raise refusal
            return found
        finally:
            self.at_once -= 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stored() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
async def keys(stored: MemoryKeys, clock: Clock) -> AsyncIterator[CachedKeys]:
    opened = _open(stored, clock)
    yield opened
    await opened.close()


def _open(stored: MemoryKeys, clock: Clock) -> CachedKeys:
    """As it is while the channel is heard."""
    opened = CachedKeys(stored, "unix:///nowhere.sock", namespace="t", clock=clock)
    opened._listener = asyncio.create_task(asyncio.sleep(60))
    opened._forget(is_open=True)
    return opened


async def test_a_key_is_looked_up_once_in_five_seconds(keys: CachedKeys, stored: MemoryKeys, clock: Clock) -> None:
    _, secret = await stored.create("sales", "ci")
    for clock.now in (0.0, 1.0, 4.999):
        assert (await keys.resolve(secret)).bu == "sales"
    assert stored.resolved == 1
    clock.now = 5.0
    await keys.resolve(secret)
    assert stored.resolved == 2


async def test_an_unknown_key_is_looked_up_once_a_second(keys: CachedKeys, stored: MemoryKeys, clock: Clock) -> None:
    said = set()
    for clock.now in (0.0, 0.5, 0.999):
        with pytest.raises(Unauthorised) as refused:
            await keys.resolve(BAD)
        said.add((refused.value.message, refused.value.remedy))
    assert stored.resolved == 1
    assert len(said) == 1
    clock.now = 1.0
    with pytest.raises(Unauthorised):
        await keys.resolve(BAD)
    assert stored.resolved == 2


async def test_what_cannot_be_a_key_is_not_looked_up(keys: CachedKeys, stored: MemoryKeys) -> None:
    for text in ("", "plt_", "sk-" + "0" * 44, BAD + "0", BAD[:-1], BAD[:-1] + "é", BAD[:-1] + "\n"):
        with pytest.raises(Unauthorised):
            await keys.resolve(text)
    assert stored.resolved == 0


async def test_expiry_is_checked_at_each_use(keys: CachedKeys, stored: MemoryKeys) -> None:
    _, secret = await stored.create("sales", "ci", expires_at=datetime.now(UTC) + timedelta(seconds=0.04))
    await keys.resolve(secret)
    await asyncio.sleep(0.05)
    with pytest.raises(Unauthorised, match="expired"):
        await keys.resolve(secret)
    assert stored.resolved == 1


async def test_nothing_is_remembered_while_the_channel_is_not_heard(keys: CachedKeys, stored: MemoryKeys) -> None:
    _, secret = await stored.create("sales", "ci")
    await keys.resolve(secret)
    keys._forget(is_open=False)
    for _ in range(3):
        await keys.resolve(secret)
    assert stored.resolved == 4
    assert not keys.is_listening


async def test_many_at_once_share_one_look_up(clock: Clock) -> None:
    stored = Slow()
    keys = _open(stored, clock)
    _, secret = await stored.create("sales", "ci")
    waiting = [asyncio.create_task(keys.resolve(secret)) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # whoever came first leaves, and takes nobody along
    await asyncio.sleep(0)
    stored.go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [key.bu for key in found[1:] if isinstance(key, ApiKey)] == ["sales"] * 49
    assert stored.resolved == 1
    await keys.close()


async def test_a_look_up_from_before_a_change_is_not_remembered(clock: Clock) -> None:
    stored = Slow()
    keys = _open(stored, clock)
    key, secret = await stored.create("sales", "ci")
    early = asyncio.create_task(keys.resolve(secret))
    await asyncio.sleep(0.01)
    await stored.revoke(key.id)
    keys._forget()  # as the channel would
    late = asyncio.create_task(keys.resolve(secret))
    await asyncio.sleep(0.01)
    stored.go.set()
    assert (await early).bu == "sales"
    with pytest.raises(Unauthorised, match="revoked"):
        await late
    with pytest.raises(Unauthorised, match="revoked"):
        await keys.resolve(secret)
    await keys.close()


async def test_a_failure_is_told_and_not_remembered(clock: Clock) -> None:
    stored = Slow()
    keys = _open(stored, clock)
    _, secret = await stored.create("sales", "ci")
    stored.failure = Transient("Postgres is away: here")
    stored.go.set()
    with pytest.raises(Transient):
        await keys.resolve(secret)
    stored.failure = None
    assert (await keys.resolve(secret)).bu == "sales"
    await keys.close()


async def test_a_flood_of_bad_keys_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "MOST_UNKNOWN", 50)
    stored = Slow()
    keys = _open(stored, clock)
    stored.go.set()
    _, secret = await stored.create("sales", "ci")
    await keys.resolve(secret)
    done = await asyncio.gather(*(keys.resolve(f"plt_{n:043d}") for n in range(200)), return_exceptions=True)
    assert {type(one) for one in done} == {Unauthorised}
    assert stored.most <= keyring.LOOKUPS
    assert len(keys._ring.refused) == 50
    looked_up = stored.resolved
    await keys.resolve(secret)
    assert stored.resolved == looked_up  # the good key is still at hand
    assert keys._ring.flights == {}
    await keys.close()


async def test_the_keys_used_last_stay(keys: CachedKeys, stored: MemoryKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "MOST_KEPT", 2)
    secrets = [(await stored.create("sales", f"k{n}"))[1] for n in range(3)]
    await keys.resolve(secrets[0])
    await keys.resolve(secrets[1])
    await keys.resolve(secrets[0])
    await keys.resolve(secrets[2])  # the second goes
    assert stored.resolved == 3
    await keys.resolve(secrets[0])
    assert stored.resolved == 3
    await keys.resolve(secrets[1])
    assert stored.resolved == 4
