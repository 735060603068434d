"""The guardrail and the caches over HTTP: who may see them, and who may move them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pilotis.api import admin, problems
from pilotis.contract.presets import default
from pilotis.derive.keys import EVERY_BU
from pilotis.derive.plan import derive
from pilotis.ports import CostEvent, Kept, Request
from pilotis.testing.guards import MemoryGuards
from pilotis.testing.keys import MemoryKeys
from pilotis.testing.money import MemoryMoney

ENV = replace(
    derive(default()).envs["dev"],
    guardrail_eur_per_req=Decimal("0.02"),
    cache_ttl_s=60,
    ladder=("smaller_top_k", "cache_only", "refuse"),
)


def event(bu: str, name: str) -> CostEvent:
    return CostEvent(
        id=name,
        at=datetime.now(UTC) - timedelta(seconds=1),
        env="dev",
        plane="online",
        bu=bu,
        kind="answer",
        subject="",
        model="m",
        usage={},
        cost_eur=Decimal("0.015"),
        price_book="",
        fx=None,
        priced=True,
    )


@pytest.fixture
def guards() -> MemoryGuards:
    return MemoryGuards([event("north", f"n{n}") for n in range(3)] + [event("south", f"s{n}") for n in range(4)])


@pytest.fixture
def money() -> MemoryMoney:
    money = MemoryMoney(ENV)

    async def fill() -> None:
        for bu in ("north", "south"):
            request = Request(id=bu, plane="online", bu=bu, ceilings=(20_000,) * 4, answer_keys=("a",) * 4)
            hold = (await money.admit(request)).hold
            await money.settle(hold, event(bu, bu), Kept(answer_key="a", record=b"record", ttl_s=60, documents=("d",)))
            await money.admit(replace(request, id=f"{bu} again"))

    asyncio.run(fill())
    return money


@pytest.fixture
def client(guards: MemoryGuards, money: MemoryMoney) -> Iterator[Callable[..., TestClient]]:
    keys = MemoryKeys()
    app = FastAPI()
    app.state.env = ENV
    app.state.service = SimpleNamespace(deps=SimpleNamespace(keys=keys, guards=guards, cache=money))
    problems.install(app)
    app.include_router(admin.router)
    opened: list[TestClient] = []

    def open_as(bu: str, *rights: Any) -> TestClient:
        _, secret = asyncio.run(keys.create(bu, "test", rights=frozenset(rights or ("admin",))))
        opened.append(TestClient(app, headers={"authorization": f"Bearer {secret}"}))
        return opened[-1].__enter__()

    yield open_as
    for one in opened:
        one.__exit__(None, None, None)


Open = Callable[..., TestClient]


def test_who_has_not_the_right_sees_and_moves_nothing(client: Open, guards: MemoryGuards) -> None:
    asker = client("north", "ask", "ingest")
    for method, path in (("GET", "guardrail"), ("POST", "guardrail"), ("GET", "cache"), ("DELETE", "cache")):
        refused = asker.request(method, f"/v1/admin/{path}")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert asyncio.run(guards.history()) == []


def test_an_operator_moves_the_guardrail_and_it_is_written_down(client: Open, guards: MemoryGuards) -> None:
    operator = client(EVERY_BU)
    moved = operator.post("/v1/admin/guardrail", json={"step": "cache_only", "bu": "north"})
    assert moved.status_code == 200
    (row,) = moved.json()["scopes"]
    assert (row["scope"], row["level"], row["step"], row["in_force"]) == ("bu:north", 2, "cache_only", "cache_only")
    assert moved.json()["moves"][0]["actor"].startswith("key:")
    assert operator.post("/v1/admin/guardrail", json={"step": "1"}).status_code == 200
    assert guards.told == {"bu:north": 2, "env": 1}

    found = operator.get("/v1/admin/guardrail").json()
    assert (found["threshold_eur"], found["ladder"][1]) == ("0.020000", "smaller_top_k")
    rows = {row["scope"]: (row["step"], row["in_force"], row["answers"], row["mean_eur"]) for row in found["scopes"]}
    assert rows == {
        "env": ("smaller_top_k", "smaller_top_k", 0, None),
        "bu:north": ("cache_only", "cache_only", 0, None),
        "bu:south": ("full", "smaller_top_k", 4, "0.015000"),
    }
    assert operator.post("/v1/admin/guardrail", json={"step": "full"}).status_code == 200
    assert guards.told == {"bu:north": 0, "env": 0}, "everybody"
    assert [move["to_level"] for move in operator.get("/v1/admin/guardrail?last=3").json()["moves"]] == [0, 0, 1]


def test_a_business_unit_sees_where_it_stands_and_moves_nothing(client: Open, guards: MemoryGuards) -> None:
    client(EVERY_BU).post("/v1/admin/guardrail", json={"step": "1"})
    north = client("north")
    found = north.get("/v1/admin/guardrail").json()
    (row,) = found["scopes"]
    assert (row["scope"], row["step"], row["in_force"], row["answers"]) == ("bu:north", "full", "smaller_top_k", 3)
    assert found["moves"] == []
    assert north.get("/v1/admin/guardrail?bu=north").json()["scopes"][0]["scope"] == "bu:north"
    for bu in ("south", "absent"):
        refused = north.get(f"/v1/admin/guardrail?bu={bu}")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    for body in ({"step": "full"}, {"step": "full", "bu": "north"}):
        assert north.post("/v1/admin/guardrail", json=body).status_code == 403
    assert guards.told == {"env": 1}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"step": "no_rerank"},
        {"step": 2},
        {"step": "9"},
        {"step": "full", "bu": ""},
        {"step": "1", "bu": "a\u0000"},
        {"stop": "1"},
    ],
)
def test_what_makes_no_sense_is_refused(client: Open, guards: MemoryGuards, body: dict[str, Any]) -> None:
    assert client(EVERY_BU).post("/v1/admin/guardrail", json=body).status_code == 422
    assert guards.told == {}


def test_each_clears_and_counts_its_own_cache_and_an_operator_all(client: Open) -> None:
    north, operator = client("north"), client(EVERY_BU)
    mine = north.get("/v1/admin/cache").json()
    assert (mine["bu"], mine["answers"], mine["hits"], mine["misses"]) == ("north", 1, 1, 1)
    assert (mine["saved_eur"], mine["hit_rate"]) == ("0.015000", 0.5)
    assert operator.get("/v1/admin/cache").json()["answers"] == 2
    assert operator.get("/v1/admin/cache?bu=nobody").json()["hit_rate"] is None
    for method in ("GET", "DELETE"):
        assert north.request(method, "/v1/admin/cache?bu=south").status_code == 403
    assert north.delete("/v1/admin/cache").json() == {"removed": 1}
    assert [operator.get(f"/v1/admin/cache?bu={bu}").json()["answers"] for bu in ("north", "south")] == [0, 1]
    assert operator.delete("/v1/admin/cache").json() == {"removed": 1}
