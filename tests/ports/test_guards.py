"""What `ports.Guards` promises, asked of every implementation."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pilotis.adapters import postgres
from pilotis.errors import Transient
from pilotis.ports import CostEvent, Guards, GuardState
from pilotis.testing.guards import MemoryGuards

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
_numbers = itertools.count(1)


@dataclass
class World:
    """Guards, the ledger they judge by, and what admission was told."""

    guards: Guards
    book: Callable[[CostEvent], Awaitable[None]]
    told: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    is_away: bool = False

    async def tell(self, levels: Mapping[str, int]) -> None:
        if self.is_away:
            raise Transient("Redis does not answer")
        self.told.update(levels)


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made = World(guards=MemoryGuards(), book=_never)
    if request.param == "memory":
        guards = MemoryGuards(tell=made.tell)

        async def book(event: CostEvent) -> None:
            guards.events.append(event)

        made.guards, made.book = guards, book
        yield made
        return
    url = _new_database(request.getfixturevalue("server"))
    await postgres.migrate(url)
    pool = await postgres.open_pool(url, max_size=8)
    try:
        made.guards = postgres.PostgresGuards(pool, env="prod", tell=made.tell, know=made.known.update)
        made.book = postgres.PostgresLedger(pool, env="prod", zone="UTC").append
        yield made
    finally:
        await pool.close()


async def _never(_: CostEvent) -> None:
    raise AssertionError


def _new_database(server: str) -> str:
    name = f"guards_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


def event(cost: str, *, minutes_ago: float = 5, bu: str = "sales", **fields: Any) -> CostEvent:
    given: dict[str, Any] = {
        "id": f"e{next(_numbers)}", "at": NOW - timedelta(minutes=minutes_ago), "env": "prod", "plane": "online", "bu": bu,
        "kind": "answer", "subject": "", "model": "m", "usage": {}, "cost_eur": Decimal(cost), "price_book": "", "fx": None,
        "priced": True,
    }  # fmt: skip
    return CostEvent(**(given | fields))


def state(scope: str = "env", level: int = 1, version: int = 1, **fields: Any) -> GuardState:
    given: dict[str, Any] = {"scope": scope, "level": level, "since": NOW, "reason": "dear", "version": version}
    return GuardState(**(given | fields))


async def seen(world: World, *states: GuardState) -> dict[str, tuple[int, Decimal]]:
    found = await world.guards.evidence(NOW - HOUR, states)
    return {scope: (one.answers, one.cost_eur) for scope, one in found.items()}


async def test_at_first_there_is_nothing(world: World) -> None:
    assert list(await world.guards.states()) == []
    assert await seen(world) == {"env": (0, Decimal(0))}
    assert list(await world.guards.history()) == []
    await world.guards.announce()
    assert world.told == {}


async def test_a_move_is_stored_told_and_written_down_with_its_figures(world: World) -> None:
    first = state("bu:sales", recovering=True, trips=2)
    assert await world.guards.move(first, actor="guardrail", figures={"answers": 60, "cost_eur": "1.80"})
    assert await world.guards.move(state("bu:sales", level=3, version=2, reason="by hand"), actor="ada", figures={})
    assert list(await world.guards.states()) == [state("bu:sales", level=3, version=2, reason="by hand")]
    assert world.told == {"bu:sales": 3}
    last, before = await world.guards.history()
    assert before == {
        "at": NOW, "scope": "bu:sales", "from_level": None, "to_level": 1, "actor": "guardrail", "reason": "dear",
        "figures": {"answers": 60, "cost_eur": "1.80"},
    }  # fmt: skip
    assert (last["from_level"], last["to_level"], last["actor"], last["figures"]) == (1, 3, "ada", {})


async def test_only_the_version_it_was_decided_on_can_be_moved(world: World) -> None:
    assert not await world.guards.move(state(version=2), actor="a", figures={}), "there is none yet"
    assert await world.guards.move(state(), actor="a", figures={})
    assert not await world.guards.move(state(level=2), actor="b", figures={}), "somebody was first"
    assert not await world.guards.move(state(level=2, version=3), actor="b", figures={})
    assert world.told == {"env": 1}
    assert len(await world.guards.history()) == 1


async def test_of_many_at_once_one_moves(world: World) -> None:
    for version in (1, 2):
        done = await asyncio.gather(
            *(world.guards.move(state(level=n, version=version), actor=str(n), figures={}) for n in range(1, 7))
        )
        assert sum(done) == 1
    (stored,) = await world.guards.states()
    assert world.told == {"env": stored.level}
    assert len(await world.guards.history()) == 2


async def test_a_move_that_could_not_be_told_is_announced_later(world: World) -> None:
    world.is_away = True
    with pytest.raises(Transient):
        await world.guards.move(state("bu:sales", level=2), actor="a", figures={})
    assert world.told == {}
    world.is_away = False
    await world.guards.announce()
    assert world.told == {"bu:sales": 2}


async def test_history_is_of_one_scope_or_of_all_latest_first(world: World) -> None:
    for n, scope in enumerate(("env", "bu:sales", "bu:legal"), 1):
        await world.guards.move(state(scope, level=n), actor="a", figures={})
    assert [move["scope"] for move in await world.guards.history(limit=2)] == ["bu:legal", "bu:sales"]
    assert [move["to_level"] for move in await world.guards.history(scope="bu:sales")] == [2]
    assert list(await world.guards.history(scope="bu:other")) == []


async def test_evidence_is_what_answers_cost_by_env_and_by_business_unit(world: World) -> None:
    for one in (event("0.03"), event("0"), event("0.01", bu="légal")):
        await world.book(one)
    for other in (
        event("9", minutes_ago=60.1),
        event("9", plane="batch", kind="ingest"),
        event("9", kind="search"),
    ):
        await world.book(other)
    assert await seen(world) == {
        "env": (3, Decimal("0.04")),
        "bu:sales": (2, Decimal("0.03")),
        "bu:légal": (1, Decimal("0.01")),
    }


async def test_evidence_begins_anew_with_each_move_of_its_scope(world: World) -> None:
    for minutes_ago in (30, 10, 5):
        await world.book(event("0.03", minutes_ago=minutes_ago))
        await world.book(event("0.01", minutes_ago=minutes_ago, bu="legal"))
    moved = state("bu:sales", since=NOW - timedelta(minutes=10))
    assert await seen(world, moved) == {
        "env": (6, Decimal("0.12")),
        "bu:sales": (2, Decimal("0.06")),
        "bu:legal": (3, Decimal("0.03")),
    }
    env = state("env", since=NOW - timedelta(minutes=7))
    assert (await seen(world, moved, env))["env"] == (2, Decimal("0.04"))
    assert "bu:sales" not in await seen(world, replace(moved, since=NOW)), "nobody has asked since"
    long_ago = state("bu:sales", since=NOW - 9 * HOUR)
    assert (await seen(world, long_ago))["bu:sales"] == (3, Decimal("0.09"))
    found = await world.guards.evidence(NOW - HOUR, [moved, long_ago, env])
    assert found["env"].since == NOW - timedelta(minutes=7)
