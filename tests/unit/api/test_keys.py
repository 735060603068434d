"""What a key may do, and who manages keys, through the HTTP face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from pilotis.api import keys as admin
from pilotis.api import problems
from pilotis.api.access import BU, Admin, Caller, Reader, Writer
from pilotis.derive.keys import EVERY_BU
from pilotis.ports import Right
from pilotis.testing.keys import MemoryKeys

Make = Callable[..., tuple[str, str]]
"""Makes a key; returns its id and its secret."""


@pytest.fixture
def stored() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def make(stored: MemoryKeys) -> Make:
    def made(*rights: Right, bu: str = "north", **more: Any) -> tuple[str, str]:
        key, secret = asyncio.run(stored.create(bu, "test", rights=frozenset(rights), **more))
        return key.id, secret

    return made


@pytest.fixture
def client(stored: MemoryKeys) -> Iterator[TestClient]:
    app = FastAPI()
    app.state.env = SimpleNamespace(timezone="Europe/Paris")
    app.state.service = SimpleNamespace(deps=SimpleNamespace(keys=stored))
    problems.install(app)
    app.include_router(admin.router)

    @app.get("/ask")
    async def ask(request: Request, caller: Caller) -> str:
        assert request.scope[BU] == caller.bu
        return caller.bu

    @app.get("/write")
    async def write(caller: Writer) -> str:
        return caller.bu

    @app.get("/read")
    async def read(caller: Reader) -> str:
        return caller.bu

    @app.get("/manage")
    async def manage(caller: Admin) -> str:
        return caller.bu

    with TestClient(app) as opened:
        yield opened


def _with(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        (("ask",), {"/ask", "/read"}),
        (("ingest",), {"/write", "/read"}),
        (("ask", "ingest"), {"/ask", "/write", "/read"}),
        (("admin",), {"/manage"}),
        (("ask", "admin"), {"/ask", "/read", "/manage"}),
    ],
)
def test_a_key_does_what_it_has_the_right_to(
    client: TestClient, make: Make, rights: tuple[Right, ...], allowed: set[str]
) -> None:
    _, secret = make(*rights)
    found = {path: client.get(path, headers=_with(secret)) for path in ("/ask", "/write", "/read", "/manage")}
    assert {path for path, response in found.items() if response.status_code == 200} == allowed
    for path in found.keys() - allowed:
        problem = found[path].json()
        assert (problem["status"], problem["code"]) == (403, "forbidden")
        missing = {"/ask": "ask", "/write": "ingest", "/read": "ask or ingest", "/manage": "admin"}[path]
        assert f"no right to {missing};" in problem["detail"]
        assert secret not in found[path].text


def test_without_a_good_key_it_is_401_whatever_the_route(client: TestClient, make: Make) -> None:
    identity, revoked = make("admin")
    client.delete(f"/v1/admin/keys/{identity}", headers=_with(revoked))
    _, late = make("ask", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    for path in ("/ask", "/write", "/read", "/manage", "/v1/admin/keys"):
        said = [client.get(path, headers=headers) for headers in ({}, _with("x"), _with(revoked), _with(late))]
        assert [response.status_code for response in said] == [401] * 4
        assert [response.headers["www-authenticate"] for response in said] == ["Bearer"] * 4
        assert "was revoked" in said[2].json()["detail"]
        assert "expired" in said[3].json()["detail"]


def test_an_admin_makes_lists_rotates_and_revokes(client: TestClient, make: Make) -> None:
    _, secret = make("admin")
    body = {"name": "website", "rights": ["ask"], "expires": "90d", "budget": {"day_eur": 2.5, "month_eur": "50"}}
    made = client.post("/v1/admin/keys", json=body, headers=_with(secret))
    assert made.status_code == 201
    key, fresh = made.json()["key"], made.json()["secret"]
    assert (key["bu"], key["rights"]) == ("north", ["ask"])
    assert key["budget"] == {"hour_eur": None, "day_eur": "2.5", "month_eur": "50"}
    left = datetime.fromisoformat(key["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    assert client.get("/ask", headers=_with(fresh)).json() == "north"

    listed = client.get("/v1/admin/keys", headers=_with(secret)).json()["keys"]
    assert key in listed
    assert fresh not in str(listed)

    rotated = client.post(f"/v1/admin/keys/{key['id']}/rotate", json={"overlap": "0s"}, headers=_with(secret))
    assert rotated.status_code == 201
    newest = rotated.json()["secret"]
    assert client.get("/ask", headers=_with(fresh)).status_code == 401
    assert client.get("/ask", headers=_with(newest)).status_code == 200

    gone = client.delete(f"/v1/admin/keys/{rotated.json()['key']['id']}", headers=_with(secret))
    assert gone.status_code == 200
    assert gone.json()["revoked_at"]
    assert client.get("/ask", headers=_with(newest)).status_code == 401


def test_an_admin_cannot_touch_or_see_another_business_units_keys(client: TestClient, make: Make) -> None:
    _, north = make("admin")
    theirs, their_secret = make("ask", bu="south")
    absent = "0197c5a2-4e0f-7cc1-9a53-2f1d8a6b9c10"
    for method, path in (("DELETE", "/v1/admin/keys/{}"), ("POST", "/v1/admin/keys/{}/rotate")):
        said = []
        for identity in (theirs, absent):
            response = client.request(method, path.format(identity), json={}, headers=_with(north))
            said.append((response.status_code, response.text.replace(identity, "ID")))
        assert said[0] == said[1]
        assert said[0][0] == 404
    assert client.get("/ask", headers=_with(their_secret)).status_code == 200
    assert all(key["bu"] == "north" for key in client.get("/v1/admin/keys", headers=_with(north)).json()["keys"])
    refused = [
        client.request(method, "/v1/admin/keys", params=params, json=body, headers=_with(north))
        for bu in ("south", "nowhere", EVERY_BU)
        for method, params, body in (("GET", {"bu": bu}, None), ("POST", None, {"name": "x", "bu": bu}))
    ]
    assert {response.status_code for response in refused} == {403}
    assert len({response.json()["detail"] for response in refused}) == 1


def test_an_operators_key_manages_all_and_reads_none(client: TestClient, make: Make) -> None:
    _, operator = make("admin", bu=EVERY_BU)
    theirs, _ = make("ask", bu="south")
    made = client.post("/v1/admin/keys", json={"name": "x", "bu": "west"}, headers=_with(operator))
    assert made.json()["key"]["bu"] == "west"
    assert {key["bu"] for key in client.get("/v1/admin/keys", headers=_with(operator)).json()["keys"]} == {"*", "south", "west"}
    only = client.get("/v1/admin/keys", params={"bu": "south"}, headers=_with(operator)).json()["keys"]
    assert [key["id"] for key in only] == [theirs]
    assert client.delete(f"/v1/admin/keys/{theirs}", headers=_with(operator)).status_code == 200
    for path in ("/ask", "/write", "/read"):
        assert client.get(path, headers=_with(operator)).status_code == 403
    for body in ({"name": "x"}, {"name": "x", "bu": EVERY_BU}):
        response = client.post("/v1/admin/keys", json=body, headers=_with(operator))
        assert (response.status_code, "business unit" in response.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "'name' is missing"),
        ({"name": ""}, "key name"),
        ({"name": "x", "rights": []}, "rights"),
        ({"name": "x", "rights": ["root"]}, "rights"),
        ({"name": "x", "expires": "soon"}, "neither a duration nor a date"),
        ({"name": "x", "expires": "2020-01-01"}, "past"),
        ({"name": "x", "budget": {"day_eur": -1}}, "day_eur"),
        ({"name": "x", "budget": {"day_eur": 1e300}}, "day_eur"),
        ({"name": "x", "budget": {"day_eur": "NaN"}}, "day_eur"),
        ({"name": "x", "budget": {"week_eur": 1}}, "week_eur"),
        ({"name": "x", "right": ["ask"]}, "did you mean 'rights'"),
    ],
)
def test_keys_that_cannot_be_made(client: TestClient, make: Make, body: dict[str, Any], said: str) -> None:
    _, secret = make("admin")
    response = client.post("/v1/admin/keys", json=body, headers=_with(secret))
    assert response.status_code == 422
    assert said in response.json()["detail"]


@pytest.mark.parametrize("overlap", ["forever", "31d", "-1h"])
def test_overlaps_that_are_none(client: TestClient, make: Make, overlap: str) -> None:
    identity, secret = make("admin")
    response = client.post(f"/v1/admin/keys/{identity}/rotate", json={"overlap": overlap}, headers=_with(secret))
    assert response.status_code == 422
    assert client.get("/manage", headers=_with(secret)).status_code == 200


def test_a_key_is_rotated_once(client: TestClient, make: Make) -> None:
    identity, secret = make("admin")
    first = client.post(f"/v1/admin/keys/{identity}/rotate", json={"overlap": "1h"}, headers=_with(secret))
    again = client.post(f"/v1/admin/keys/{identity}/rotate", json={"overlap": "1h"}, headers=_with(secret))
    assert (first.status_code, again.status_code, again.json()["code"]) == (201, 409, "conflict")
