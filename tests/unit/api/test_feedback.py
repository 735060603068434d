"""Votes on answers: whose they may be, what is kept, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from pilotis.ports import Hit
from pilotis.testing.online import Entry

QUESTION = {"question": "How do I revoke the old key?"}
SOUTH = {"authorization": "Bearer south"}


@pytest.fixture
def answered(client: TestClient, stored: str) -> str:
    """The id of an answer of business unit `north`, whose cost is not in the ledger yet."""
    return str(client.post("/v1/ask", json=QUESTION).json()["id"])


def vote(client: TestClient, answer_id: str, **body: Any) -> Any:
    return client.post(f"/v1/answers/{answer_id}/feedback", json={"vote": "up"} | body)


def counted(client: TestClient, which: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("rag_feedback_total") and f'vote="{which}"' in line)


async def listed(client: TestClient) -> Any:
    return await client.app.state.service.deps.feedback.list()  # type: ignore[attr-defined]


async def test_a_vote_right_after_the_answer_is_kept(client: TestClient, world: Any, answered: str) -> None:
    assert not world.booked, "its cost is still on the way to the ledger"
    response = vote(client, answered, comment="good")
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["answer_id"], body["vote"], body["comment"]) == (answered, "up", "good")
    (kept,) = await listed(client)
    assert (kept.bu, kept.vote, kept.question) == ("north", "up", None)
    assert counted(client, "up") == 1


async def test_nothing_but_what_was_sent_is_kept(client: TestClient, answered: str) -> None:
    vote(client, answered)
    (kept,) = await listed(client)
    assert (kept.question, kept.comment, kept.passage_id, kept.excerpt) == (None, None, None, None)
    assert "revoke" not in repr(kept)
    vote(client, answered, question=QUESTION["question"], comment="  ")
    (kept,) = await listed(client)
    assert (kept.question, kept.comment) == (QUESTION["question"], None)


async def test_the_last_vote_of_a_key_counts(client: TestClient, answered: str) -> None:
    vote(client, answered)
    vote(client, answered, vote="down")
    (kept,) = await listed(client)
    assert kept.vote == "down"
    assert (counted(client, "up"), counted(client, "down")) == (1, 1)


async def test_the_right_passage_is_named_with_its_document(client: TestClient, world: Any, answered: str) -> None:
    hit = Hit(
        passage_id="p1", document_id="d1", document="keys.md", collection="c", title=None, headings=(), page=None, start=0, end=4,
        language="en", text="text", score=0, dense=0, lexical=0,
    )  # fmt: skip
    world.index.entries += [Entry(bu=bu, hit=hit, vector=np.zeros(3, np.float32)) for bu in ("north",)]
    assert vote(client, answered, passage_id="p1", vote="down").json()["document"] == "keys.md"
    refused = vote(client, answered, passage_id="p2")
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_passage")


def test_an_answer_of_another_business_unit_is_not_there(client: TestClient, answered: str) -> None:
    theirs = client.post(f"/v1/answers/{answered}/feedback", json={"vote": "up"}, headers=SOUTH)
    nobodys = client.post("/v1/answers/no-such/feedback", json={"vote": "up"}, headers=SOUTH)
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["detail"].replace(answered, "no-such") == nobodys.json()["detail"]


def test_an_answer_from_the_cache_is_the_same_answer(client: TestClient, answered: str) -> None:
    again = client.post("/v1/ask", json=QUESTION).json()
    assert (again["cache"], again["id"]) == ("hit", answered)
    assert vote(client, again["id"]).status_code == 200


def test_a_search_is_no_answer(client: TestClient, stored: str) -> None:
    found = client.post("/v1/search", json=QUESTION).json()
    assert vote(client, found["id"]).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"vote": "maybe"}, "vote"),
        ({"comment": "x" * 4001}, "comment"),
        ({"question": "a\0b"}, "question"),
        ({"passage_id": 3}, "passage_id"),
        ({"stars": 5}, "stars"),
    ],
)
def test_what_is_no_vote(client: TestClient, answered: str, body: dict[str, Any], field: str) -> None:
    refused = vote(client, answered, **body)
    assert refused.status_code == 422
    assert field in refused.json()["detail"]
    assert counted(client, "up") == 0


def test_a_vote_needs_a_key(client: TestClient, answered: str) -> None:
    path = f"/v1/answers/{answered}/feedback"
    assert client.post(path, json={"vote": "up"}, headers={"authorization": "Bearer nobody"}).status_code == 401


def test_with_the_outbox_away_what_the_ledger_has_is_still_voted_on(client: TestClient, world: Any, answered: str) -> None:
    assert vote(client, answered).status_code == 200
    world.away |= {"redis"}
    assert vote(client, answered, vote="down").status_code == 200
    assert vote(client, "unknown").status_code == 404
