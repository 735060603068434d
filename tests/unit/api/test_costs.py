"""GET /v1/costs, on a ledger in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from pilotis.api import costs, problems
from pilotis.derive.keys import EVERY_BU
from pilotis.errors import Unauthorised
from pilotis.ports import ApiKey, CostEvent
from pilotis.testing.ledger import MemoryLedger

ZONE = "Europe/Paris"
JUNE = datetime(2026, 6, 15, tzinfo=UTC)


class Keys:
    async def resolve(self, secret: str) -> ApiKey:
        rights = {"sales": {"ask"}, "admin": {"ask", "admin"}, "operator": {"admin"}}.get(secret)
        if rights is None:
            raise Unauthorised("this API key is not known")
        return ApiKey(
            id=secret,
            bu=EVERY_BU if secret == "operator" else "sales",
            name=secret,
            prefix="p",
            created_at=JUNE,
            revoked_at=None,
            rights=frozenset(cast("Any", rights)),
        )


def event(name: str, cost: str, bu: str, **fields: Any) -> CostEvent:
    given: dict[str, Any] = {"at": JUNE, "model": "small", "estimated": False} | fields
    usage = {"calls": [{"model": "small", "provider": "p", "input_tokens": 7, "output_tokens": 1}]}
    return CostEvent(
        id=name,
        env="dev",
        plane="online",
        bu=bu,
        kind="answer",
        subject=name,
        usage=usage,
        cost_eur=Decimal(cost),
        price_book="b",
        fx=None,
        priced=True,
        **given,
    )


class NamesRequests:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["request_id"] = "r"
        await self.app(scope, receive, send)


@pytest.fixture
def client() -> Iterator[TestClient]:
    ledger = MemoryLedger(zone=ZONE)
    for one in (
        event("a", "0.5", "sales"),
        event("b", "0.25", "sales", model="big", at=JUNE + timedelta(days=1), estimated=True),
        event("c", "4", "legal"),
        event("d", "1", "sales", at=datetime.now(UTC)),
    ):
        ledger.rows[one.id] = one
    app = FastAPI(middleware=[Middleware(NamesRequests)])
    app.include_router(costs.router)
    problems.install(app)
    app.state.env = SimpleNamespace(timezone=ZONE)
    app.state.service = SimpleNamespace(deps=SimpleNamespace(keys=Keys(), ledger=ledger))
    with TestClient(app, headers={"x-api-key": "sales"}) as opened:
        yield opened


def get(client: TestClient, key: str = "sales", **query: str) -> Any:
    return client.get("/v1/costs", params=query, headers={"x-api-key": key})


def test_a_business_unit_sees_its_own_costs_by_day_and_model(client: TestClient) -> None:
    found = get(client, period="2026-06").json()
    assert (found["since"], found["until"], found["timezone"]) == ("2026-05-31T22:00:00Z", "2026-06-30T22:00:00Z", ZONE)
    assert (found["bu"], found["by"]) == ("sales", ["day", "model"])
    figures = {"requests": 1, "input_tokens": 7, "output_tokens": 1, "unpriced": 0}
    assert found["rows"] == [
        {"day": "2026-06-15", "model": "small", "cost_eur": "0.500000", "estimated": 0} | figures,
        {"day": "2026-06-16", "model": "big", "cost_eur": "0.250000", "estimated": 1} | figures,
    ]
    assert found["total"] == {
        "requests": 2,
        "cost_eur": "0.750000",
        "input_tokens": 14,
        "output_tokens": 2,
        "estimated": 1,
        "unpriced": 0,
    }


def test_this_month_is_what_is_meant_where_nothing_is_said(client: TestClient) -> None:
    assert get(client).json()["total"]["cost_eur"] == "1.000000"
    assert get(client, since="2026-06", by="month").json()["total"]["cost_eur"] == "1.750000"


def test_an_operator_sees_all_or_the_one_it_names(client: TestClient) -> None:
    everything = get(client, "operator", period="2026-06", by="bu").json()
    assert [(row["bu"], row["cost_eur"]) for row in everything["rows"]] == [("legal", "4.000000"), ("sales", "0.750000")]
    assert everything["bu"] is None
    assert get(client, "operator", period="2026-06", bu="legal").json()["total"]["cost_eur"] == "4.000000"


@pytest.mark.parametrize("secret", ["sales", "admin"])
def test_nobody_else_sees_another_business_unit(client: TestClient, secret: str) -> None:
    refused = get(client, secret, bu="legal")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert get(client, bu="nobody").status_code == 403
    assert get(client, by="bu").status_code == 422
    assert get(client, bu="sales", period="2026-06").json()["total"]["cost_eur"] == "0.750000"
    assert get(client, "stranger").status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        {"by": "weather"},
        {"by": "instance"},
        {"period": "June"},
        {"period": "today", "since": "7d"},
        {"since": "2026-06", "until": "2026-05"},
        {"perod": "today"},
        {"period": "\0"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(client: TestClient, query: dict[str, str]) -> None:
    assert get(client, **query).status_code == 422
