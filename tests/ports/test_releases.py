"""What `ports.releases` promises of its stores, asked of every implementation; and what only two at once can show, of Postgres."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.adapters.postgres.queries import statements
from pilotis.adapters.postgres.schema import Schema, check_schema
from pilotis.control import trail as lines
from pilotis.errors import Conflict, NotFound, SetupError
from pilotis.ports.releases import (
    LATENCY_BOUNDS_MS,
    Approval,
    Measures,
    Release,
    Releases,
    Rollout,
    Seen,
    Split,
    Splits,
    Traffic,
)
from pilotis.testing.releases import MemoryReleases, MemorySplits

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass
class World:
    releases: Releases
    splits: Splits
    measures: Measures
    url: str | None = None

    @property
    def real(self) -> str:
        if self.url is None:
            pytest.skip("memory has no second connection")
        return self.url


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        splits = MemorySplits()
        yield World(MemoryReleases(), splits, splits)
        return
    server, name = request.getfixturevalue("server"), f"releases_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    url = f"{head.rpartition('/')[0]}/{name}?{query}"
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=10)
    try:
        measures = postgres.PostgresMeasures(pool, env="prod")
        yield World(postgres.PostgresReleases(pool, env="prod"), postgres.PostgresSplits(pool, env="prod"), measures, url)
    finally:
        await pool.close()


def release(name: str, **changes: Any) -> Release:
    fields: dict[str, Any] = {
        "id": name,
        "env": "prod",
        "settings": ("flags=hybrid,prompt_v1", "top_k=8"),
        "contract": "c" * 64,
        "author": "ada",
        "created_at": NOW,
        "image": None,
        "generation": 3,
        "note": "cheaper",
    }
    return Release(**(fields | changes))


def rollout(name: str = "r1", **changes: Any) -> Rollout:
    fields: dict[str, Any] = {
        "id": name,
        "env": "prod",
        "candidate": "new",
        "stable": "old",
        "state": "pending",
        "stages": (5, 25, 100),
        "stage": 0,
        "weight": 0,
        "author": "ada",
        "began_at": NOW,
        "since": NOW,
        "ends_at": NOW + timedelta(minutes=10),
    }
    return Rollout(**(fields | changes))


def moved(before: Rollout, **changes: Any) -> Rollout:
    return replace(before, version=before.version + 1, **changes)


async def test_a_release_is_kept_as_it_was_made_and_twice_is_once(world: World) -> None:
    made = release("abc123")
    assert await world.releases.add(made) == made
    assert await world.releases.add(replace(made, author="eve", note="again")) == made
    assert await world.releases.get("abc") == made
    assert list(await world.releases.list()) == [made]


async def test_a_beginning_that_several_have_is_refused_unless_it_is_the_whole_id(world: World) -> None:
    for name in ("abc1", "abc2", "abc"):
        await world.releases.add(release(name))
    assert (await world.releases.get("abc")).id == "abc"
    with pytest.raises(Conflict, match="several"):
        await world.releases.get("ab")
    with pytest.raises(NotFound, match="zzz"):
        await world.releases.get("zzz")
    with pytest.raises(NotFound):
        await world.releases.get("%")


async def test_a_rollout_comes_back_as_it_was_stored(world: World) -> None:
    before = rollout(confirmed_at=NOW, verdict={"outcome": "pass", "gates": [{"p": 1e-7}]}, hard=True, router="haproxy")
    assert await world.releases.begin(before, actor="ada")
    assert await world.releases.rollout() == before
    assert await world.releases.rollout("r1") == before
    assert await world.releases.rollout("r2") is None


async def test_one_at_a_time_is_under_way(world: World) -> None:
    first = rollout()
    assert await world.releases.begin(first, actor="ada")
    assert not await world.releases.begin(rollout("r2"), actor="eve")
    ended = moved(first, state="rolled_back")
    assert await world.releases.swap(ended, actor="control", figures={})
    assert await world.releases.begin(rollout("r2"), actor="eve")
    assert [one.id for one in await world.releases.history()] == ["r2", "r1"]
    assert [line["actor"] for line in await world.releases.trail()] == ["ada", "control", "eve"], "no line of what was refused"


async def test_a_change_needs_the_version_it_was_decided_on_and_brings_its_line_and_the_stable_release_along(
    world: World,
) -> None:
    first = rollout()
    await world.releases.begin(first, actor="ada")
    done = moved(first, state="completed", weight=100, reason="all passed")
    assert not await world.releases.swap(moved(done), actor="control", figures={})
    assert await world.releases.stable() is None
    assert await world.releases.swap(done, actor="control", figures={"requests": 210}, stable="new")
    assert not await world.releases.swap(done, actor="control", figures={}, stable="other")
    assert await world.releases.stable() == "new"
    last = (await world.releases.trail(rollout="r1"))[-1]
    assert (last["action"], last["actor"], last["n"]) == ("completed", "control", 2)
    assert {"weight": 100, "reason": "all passed", "requests": 210, "stable": "new"}.items() <= last["figures"].items()


async def test_who_has_lost_the_lease_is_refused_by_its_fence(world: World) -> None:
    first = rollout()
    await world.releases.begin(first, actor="ada")
    old = await world.releases.lease("one", ttl_s=0.05)
    assert old == await world.releases.lease("one", ttl_s=0.05), "renewing keeps the fence"
    assert await world.releases.lease("two", ttl_s=5) is None
    await asyncio.sleep(0.1)
    new = await world.releases.lease("two", ttl_s=5)
    assert new is not None
    assert old is not None
    assert new > old
    assert not await world.releases.swap(moved(first, state="progressing"), actor="control", figures={}, fence=old)
    assert await world.releases.swap(moved(first, state="progressing"), actor="control", figures={}, fence=new)


async def test_an_approval_is_one_a_role_and_stands_in_the_trail(world: World) -> None:
    given = Approval(
        rollout="r1", role="sre", by="key1", at=NOW, expires_at=NOW + timedelta(days=1), evidence="e", signature="s"
    )
    await world.releases.approve(given)
    later = replace(given, by="key2", signature="t")
    await world.releases.approve(later)
    assert list(await world.releases.approvals("r1")) == [later]
    assert list(await world.releases.approvals("r2")) == []
    assert [line["figures"]["signature"] for line in await world.releases.trail()] == ["s", "t"]


async def test_the_trail_holds_together_and_shows_what_was_changed(world: World) -> None:
    for n in range(5):
        await world.releases.note(actor="ada", action="looked", rollout=None, figures={"n": n, "part": "é", "eur": 0.1})
    trail, last = await world.releases.trail(), await world.releases.last()
    assert lines.verify(trail, last=last) == []
    assert [line["n"] for line in await world.releases.trail(limit=2)] == [4, 5]
    forged = [dict(line) for line in trail]
    forged[2]["text"] = forged[2]["text"].replace('"n":2', '"n":9')
    assert lines.verify(forged, last=last)[0][0] == 3
    assert lines.verify([*trail[:1], *trail[2:]], last=last)[0] == (2, "line 2 is missing: the next there is, is 3")
    assert "5 were written" in lines.verify(trail[:4], last=last)[0][1]
    text, hashed = lines.line(n=3, at=NOW, actor="eve", action="x", rollout=None, figures={}, before=str(trail[1]["hash"]))
    assert lines.verify([*trail[:2], lines.read(text, hashed, n=3), *trail[3:]], last=last)[0][0] == 4, (
        "the next one does not follow"
    )


def test_a_line_is_ascii_with_its_keys_in_order_and_its_instant_in_utc_to_the_microsecond() -> None:
    at = datetime(2026, 11, 24, 13, tzinfo=timezone(timedelta(hours=1)))
    text, hashed = lines.line(
        n=1, at=at, actor="é\udce9\0", action="x", rollout=None, figures={"b": Decimal("0.10"), "a": 1}, before=""
    )
    assert text == (
        r'{"action":"x","actor":"\u00e9\udce9\u0000","at":"2026-11-24T12:00:00.000000+00:00","before":"",'
        r'"figures":{"a":1,"b":"0.10"},"n":1,"rollout":null}'
    )
    read = lines.read(text, hashed, n=1)
    assert (read["at"], read["actor"]) == (at, "é\udce9\0")
    assert lines.verify([read]) == []


async def test_a_name_that_is_no_text_stops_no_trail(world: World) -> None:
    await world.releases.note(actor="\udce9ve", action="x", rollout=None, figures={})
    await world.releases.note(actor="ada\0", action="x", rollout=None, figures={})
    assert [line["actor"] for line in await world.releases.trail()] == ["\udce9ve", "ada\0"]


def seen(**changes: Any) -> Seen:
    fields: dict[str, Any] = {
        "instance": "a",
        "url": "http://127.0.0.1:8081",
        "release": None,
        "split": Split(stable="old", candidate="new", weight=5),
        "inside": {"new": 2},
    }
    return Seen(**(fields | changes))


def done(**changes: Any) -> Traffic:
    latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latency[3] = 2
    fields: dict[str, Any] = {
        "since": NOW,
        "until": NOW,
        "requests": 2,
        "errors": 1,
        "latency": tuple(latency),
        "paid": 1,
        "cost_eur": Decimal("0.000001"),
        "cost_sq": Decimal("0.000000000001"),
    }
    return Traffic(**(fields | changes))


async def test_the_split_is_the_last_that_was_wanted(world: World) -> None:
    assert await world.splits.wanted() is None
    for split in (Split(stable="old"), Split(stable="old", candidate="new", weight=25)):
        await world.splits.want(split)
        assert await world.splits.wanted() == split


async def test_processes_are_seen_as_they_said_last_and_for_as_long_as_they_speak(world: World) -> None:
    await world.splits.report(seen(), {})
    await world.splits.report(seen(inside={}), {})
    await world.splits.report(seen(instance="b", release="new", split=None), {})
    found = await world.splits.seen(within_s=5)
    assert [(one.instance, one.release, one.split is None, dict(one.inside)) for one in found] == [
        ("a", None, False, {}),
        ("b", "new", True, {"new": 2}),
    ]
    await asyncio.sleep(0.1)
    assert list(await world.splits.seen(within_s=0.05)) == []


async def test_what_releases_did_is_summed_exactly_and_within_the_window(world: World) -> None:
    before = datetime.now(UTC) - timedelta(seconds=10)
    for n in range(3):
        await world.splits.report(seen(instance=f"i{n % 2}"), {"new": done(saturation=n / 10), "old": done(errors=0)})
    after = datetime.now(UTC) + timedelta(seconds=10)
    found = await world.measures.traffic("new", since=before, until=after)
    assert (found.requests, found.errors, found.paid) == (6, 3, 3)
    assert found.cost_eur == Decimal("0.000003")
    assert found.cost_sq == Decimal("0.000000000003")
    assert found.latency[3] == 6
    assert sum(found.latency) == 6
    assert found.saturation == pytest.approx(0.2)
    for nothing in (
        await world.measures.traffic("new", since=after, until=after + timedelta(hours=1)),
        await world.measures.traffic("unknown", since=before, until=after),
    ):
        assert (nothing.requests, sum(nothing.latency), len(nothing.latency)) == (0, 0, len(LATENCY_BOUNDS_MS) + 1)
        assert nothing.saturation is None


async def test_examinations_are_one_a_question(world: World) -> None:
    await world.splits.examined("r1", "new", {"q1": True, "q2": False})
    await world.splits.examined("r1", "new", {"q2": True})
    await world.splits.examined("r1", "old", {"q1": True})
    assert await world.splits.examinations("r1") == {"new": {"q1": True, "q2": True}, "old": {"q1": True}}
    assert await world.splits.examinations("r2") == {}
    await world.splits.trim()
    assert await world.splits.examinations("r1") != {}


async def test_of_two_that_begin_or_change_at_once_one_is_refused(world: World) -> None:
    assert world.real
    begun = await asyncio.gather(*(world.releases.begin(rollout(f"r{n}"), actor=f"a{n}") for n in range(6)))
    assert sum(begun) == 1
    under_way = await world.releases.rollout()
    assert under_way is not None
    changes = [moved(under_way, state="progressing", reason=f"by {n}") for n in range(6)]
    swapped = await asyncio.gather(*(world.releases.swap(one, actor="c", figures={}) for one in changes))
    assert sum(swapped) == 1
    assert len(await world.releases.trail()) == 2


async def test_of_many_that_want_an_expired_lease_one_gets_it_and_who_had_it_can_change_nothing(world: World) -> None:
    assert world.real
    first = rollout()
    await world.releases.begin(first, actor="ada")
    old = await world.releases.lease("killed", ttl_s=0.01)
    await asyncio.sleep(0.05)
    fences = await asyncio.gather(*(world.releases.lease(f"c{n}", ttl_s=30) for n in range(8)))
    assert sorted(fence for fence in fences if fence is not None) == [2]
    late = [world.releases.swap(moved(first, reason=f"by {n}"), actor="late", figures={}, fence=old) for n in range(4)]
    new = world.releases.swap(moved(first, reason="by the new one"), actor="control", figures={}, fence=2)
    assert await asyncio.gather(*late, new) == [False] * 4 + [True]
    assert [line["actor"] for line in await world.releases.trail()] == ["ada", "control"]


async def test_lines_that_are_added_at_once_never_fork_the_trail(world: World) -> None:
    assert world.real
    await asyncio.gather(*(world.releases.note(actor=f"a{n}", action="x", rollout=None, figures={}) for n in range(40)))
    trail = await world.releases.trail()
    assert lines.verify(trail, last=await world.releases.last()) == []
    assert len(trail) == 40


@pytest.mark.parametrize("change", ["UPDATE trail SET line = '{}'", "DELETE FROM trail"])
async def test_the_database_itself_refuses_to_change_the_trail(world: World, change: str) -> None:
    url = world.real
    await world.releases.note(actor="ada", action="x", rollout=None, figures={})
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.RaiseException, match="only added to"):
        connection.execute(change.encode())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trail SET line = 'no json' WHERE n = 2",
        "UPDATE trail SET line = '{}' WHERE n = 2",
        "UPDATE trail SET line = '[1]' WHERE n = 2",
        "UPDATE trail SET line = (SELECT line FROM trail WHERE n = 1) WHERE n = 2",
        "UPDATE trail SET (line, hash) = (SELECT line, hash FROM trail WHERE n = 1) WHERE n = 2",
        "UPDATE trail SET line = replace(line, 'ada', 'eve') WHERE n = 2",
        "DELETE FROM trail WHERE n = 2",
        "DELETE FROM trail WHERE n >= 2",
        "TRUNCATE trail",
    ],
)
async def test_whatever_an_owner_of_the_database_does_to_the_trail_is_told_and_breaks_nothing(
    world: World, change: str
) -> None:
    url = world.real
    for _ in range(3):
        await world.releases.note(actor="ada", action="x", rollout="r1", figures={})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE trail DISABLE TRIGGER ALL")
        connection.execute(change.encode())
        connection.execute("ALTER TABLE trail ENABLE TRIGGER ALL")
    faults = lines.verify(await world.releases.trail(), last=await world.releases.last())
    assert faults
    assert faults[0][0] == (1 if "TRUNCATE" in change else 2)
    await world.releases.note(actor="ada", action="goes on", rollout="r1", figures={})
    assert (await world.releases.trail(rollout="r1"))[-1]["n"] == 4
    assert lines.verify(await world.releases.trail(), last=await world.releases.last()), "it is not forgotten"


async def test_what_is_old_is_trimmed_and_by_its_index(world: World) -> None:
    url = world.real
    await world.splits.report(seen(), {"new": done()})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO traffic SELECT env, release, begins - days * interval '1 day', instance, requests, errors, latency, paid,"
            " cost_eur, cost_sq, saturation FROM traffic, unnest(ARRAY[31, 33, 400]) days"
        )
        connection.execute(
            "INSERT INTO seen SELECT env, 'gone', url, release, stable, candidate, weight, inside, at - interval '25 h' FROM seen"
        )
        await world.splits.trim()
        ages = "SELECT extract(day FROM now() - begins)::int FROM traffic ORDER BY 1"
        assert connection.execute(ages.encode()).fetchall() == [(0,), (31,)]
        assert connection.execute("SELECT instance FROM seen").fetchall() == [("a",)]
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(("EXPLAIN " + statements("splits")["trim"]).encode()).fetchall()
    assert any("traffic_begins" in row[0] for row in plan)


async def test_sums_of_many_processes_at_once_lose_nothing(world: World) -> None:
    assert world.real
    before = datetime.now(UTC) - timedelta(seconds=10)
    reports = [world.splits.report(seen(instance=f"i{n % 4}"), {"new": done()}) for n in range(40)]
    await asyncio.gather(*reports)
    found = await world.measures.traffic("new", since=before, until=datetime.now(UTC) + timedelta(seconds=10))
    assert (found.requests, found.cost_eur) == (80, Decimal("0.000040"))


async def test_a_newer_schema_is_served_where_it_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    url = world.real
    monkeypatch.setitem(check_schema.__globals__, "place", _as_known_by_the_version_before)
    pool = await postgres.open_pool(url)
    try:
        with pytest.raises(SetupError, match="newer than this Pilotis knows"):
            await check_schema(pool)
        with pytest.raises(SetupError, match="newer than this Pilotis knows"):
            await postgres.migrate(url)
        async with pool.connection() as connection:
            await connection.execute("UPDATE schema_floor SET oldest = '0012'")
        await check_schema(pool)
        assert (await postgres.migrate(url)).pending == (), "the way back begins with the migration of the version before"
        assert (await postgres.schema(url)).current == "0013"
    finally:
        await pool.close()


def _as_known_by_the_version_before(current: str | None) -> Schema:
    return Schema(current=current, head="0012", pending=())
