"""The same questions to the keys in memory, to those in Postgres, and to those remembered over Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from pilotis.adapters import postgres
from pilotis.adapters.keyring import CachedKeys
from pilotis.derive.budget import Budget
from pilotis.derive.keys import EVERY_BU
from pilotis.embedded import Addresses
from pilotis.errors import Conflict, Invalid, NotFound, Unauthorised
from pilotis.ports import Keys
from pilotis.testing.keys import MemoryKeys


@pytest.fixture(params=["memory", "postgres", "remembered"])
async def keys(request: pytest.FixtureRequest, database: str, stack: Addresses) -> AsyncIterator[Keys]:
    if request.param == "memory":
        yield MemoryKeys()
        return
    pool = await postgres.open_pool(database, max_size=4)
    try:
        async with pool.connection() as connection:
            await connection.execute("TRUNCATE api_key")
        stored = postgres.PostgresKeys(pool)
        if request.param == "postgres":
            yield stored
            return
        remembered = CachedKeys(stored, stack.redis_url, namespace="pilotis:ports")
        await _listening(remembered)
        yield remembered
        await remembered.close()
    finally:
        await pool.close()


async def test_a_key_is_what_was_asked_for(keys: Keys) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    budget = Budget(hour_eur=Decimal("0.000001"), month_eur=Decimal("12.50"))
    made, secret = await keys.create("sales", "ci", rights=frozenset({"ask"}), expires_at=ends, budget=budget)
    found = await keys.resolve(secret)
    assert found == made == (await keys.list("sales"))[0]
    assert (found.rights, found.expires_at, found.budget) == (frozenset({"ask"}), ends, budget)
    assert secret.startswith(found.prefix)
    assert len(secret) > 40
    assert secret not in repr(found)


async def test_a_key_asks_and_ingests_for_ever_unless_told_otherwise(keys: Keys) -> None:
    made, _ = await keys.create("sales", "ci")
    assert (made.rights, made.expires_at, made.budget, made.revoked_at) == (frozenset({"ask", "ingest"}), None, None, None)


async def test_business_units_are_listed_apart(keys: Keys) -> None:
    await keys.create("north", "a")
    await keys.create("south", "b")
    assert [key.name for key in await keys.list("north")] == ["a"]
    assert {key.name for key in await keys.list()} == {"a", "b"}
    assert list(await keys.list("nowhere")) == []


async def test_what_nobody_made_is_unknown(keys: Keys) -> None:
    _, secret = await keys.create("sales", "ci")
    for wrong in ("", "plt_", secret[:-1], secret + "x", secret.swapcase(), "plt_\ud800", "plt_" + "é" * 43, "x" * 10_000):
        with pytest.raises(Unauthorised, match="not known"):
            await keys.resolve(wrong)
    assert (await keys.resolve(secret)).name == "ci"


async def test_a_revoked_key_is_refused_and_keeps_its_first_date(keys: Keys) -> None:
    made, secret = await keys.create("sales", "ci")
    await keys.resolve(secret)
    first = await keys.revoke(made.id)
    assert first.revoked_at is not None
    with pytest.raises(Unauthorised, match="was revoked"):
        await keys.resolve(secret)
    assert (await keys.revoke(made.id)).revoked_at == first.revoked_at


async def test_a_key_ends_at_its_date(keys: Keys) -> None:
    _, secret = await keys.create("sales", "ci", expires_at=datetime.now(UTC) + timedelta(seconds=0.15))
    await keys.resolve(secret)
    await asyncio.sleep(0.2)
    with pytest.raises(Unauthorised, match="expired"):
        await keys.resolve(secret)


async def test_keys_that_cannot_be_made(keys: Keys) -> None:
    for bu, name in (("", "ci"), ("sales", ""), ("sales", "a\x00b"), ("x" * 101, "ci")):
        with pytest.raises(Invalid):
            await keys.create(bu, name)
    with pytest.raises(Invalid, match="admin alone"):
        await keys.create(EVERY_BU, "ops")
    assert (await keys.create(EVERY_BU, "ops", rights=frozenset({"admin"})))[0].bu == EVERY_BU


async def test_a_rotated_key_has_a_successor_like_itself(keys: Keys) -> None:
    ends = datetime.now(UTC) + timedelta(days=30)
    budget = Budget(day_eur=Decimal(5))
    old, secret = await keys.create("sales", "ci", rights=frozenset({"ask"}), expires_at=ends, budget=budget)
    new, fresh = await keys.rotate(old.id, overlap_s=3600)
    assert fresh != secret
    assert new.id != old.id
    assert (new.bu, new.name, new.rights, new.budget) == ("sales", "ci", frozenset({"ask"}), budget)
    assert new.expires_at is not None
    assert abs(new.expires_at - ends) < timedelta(seconds=10)
    held = await keys.resolve(secret)
    assert held.expires_at is not None
    assert timedelta(minutes=59) < held.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert (await keys.resolve(fresh)).id == new.id


async def test_without_an_overlap_the_old_key_ends_at_once(keys: Keys) -> None:
    old, secret = await keys.create("sales", "ci")
    await keys.resolve(secret)
    new, fresh = await keys.rotate(old.id, overlap_s=0)
    with pytest.raises(Unauthorised, match="expired"):
        await keys.resolve(secret)
    assert (await keys.resolve(fresh)).expires_at is None
    assert new.expires_at is None


async def test_an_overlap_never_lengthens_a_life(keys: Keys) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    old, secret = await keys.create("sales", "ci", expires_at=ends)
    await keys.rotate(old.id, overlap_s=86_400)
    assert (await keys.resolve(secret)).expires_at == ends


async def test_what_cannot_be_rotated(keys: Keys) -> None:
    for absent in ("0197c5a2-4e0f-7cc1-9a53-2f1d8a6b9c10", "none"):
        with pytest.raises(NotFound):
            await keys.rotate(absent, overlap_s=0)
        with pytest.raises(NotFound):
            await keys.revoke(absent)
    twice, _ = await keys.create("sales", "twice")
    await keys.rotate(twice.id, overlap_s=60)
    with pytest.raises(Conflict, match="rotated before"):
        await keys.rotate(twice.id, overlap_s=60)
    gone, _ = await keys.create("sales", "gone")
    await keys.revoke(gone.id)
    with pytest.raises(Conflict, match="revoked"):
        await keys.rotate(gone.id, overlap_s=60)


async def test_one_of_many_rotations_at_once_wins(keys: Keys) -> None:
    old, _ = await keys.create("sales", "ci")
    done = await asyncio.gather(*(keys.rotate(old.id, overlap_s=60) for _ in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["Conflict", "Conflict", "Conflict", "tuple"]
    assert len(await keys.list("sales")) == 2


async def _listening(keys: CachedKeys) -> None:
    with pytest.raises(Unauthorised):
        await keys.resolve("plt_" + "0" * 43)
    async with asyncio.timeout(5):
        while not keys.is_listening:  # noqa: ASYNC110 - nothing to wait for but this
            await asyncio.sleep(0.01)
