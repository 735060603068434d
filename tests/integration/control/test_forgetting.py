"""A deleted document takes the answers that were made from it along, whatever is away at that moment; and the guardrail survives Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import redis

if TYPE_CHECKING:
    from integration.conftest import Up

CONTRACT = """
[envs.dev]
llm = {{ model = "{model}", base_url = "{simulator}" }}
cache_ttl_s = 600

[envs.dev.budgets]
env = {{ hour_eur = 20 }}

[costs]
guardrail_eur_per_req = 0.02
guardrail_min_sample = 50

[costs.prices."{model}"]
input_per_mtok = 2
output_per_mtok = 8
"""
SLOW = "mock-ttft50-itl60-len25"
TEXT = b"# Tolls\n\nThe toll of the bridge is three florins, and on Sundays it is free for everybody who walks.\n"


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory, start_up: Callable[..., Up], simulator: str) -> Up:
    contract = CONTRACT.format(model=SLOW, simulator=simulator)
    return start_up(tmp_path_factory.mktemp("bridge") / "data", contract=contract)


@pytest.fixture(scope="module")
def client(bridge: Up) -> Iterator[httpx2.Client]:
    with bridge.client(bridge.key("default")[1]) as opened:
        yield opened


def sent(client: httpx2.Client, name: str, text: bytes = TEXT) -> str:
    """The id of a document, once it can be found."""
    document = str(client.post("/v1/documents", files={"file": (name, text)}).raise_for_status().json()["documents"][0]["id"])
    deadline = time.monotonic() + 30
    while client.get(f"/v1/documents/{document}").json()["state"] != "indexed":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return document


def ask(client: httpx2.Client, question: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/ask", json={"question": question}).raise_for_status().json()
    return answer


class Frozen:
    """The service's Redis, which answers nobody within the block and whose writes are all there behind it."""

    def __init__(self, up: Up) -> None:
        with redis_of(up) as connection:
            self.pid = int(connection.info("server")["process_id"])

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)


def redis_of(up: Up) -> redis.Redis:
    (api,) = up.pids("pilotis.api")
    told = Path(f"/proc/{api}/environ").read_bytes().split(b"\0")
    (url,) = (line.partition(b"=")[2].decode() for line in told if line.startswith(b"PILOTIS_REDIS_URL="))
    return redis.Redis.from_url(url)


def cited(answer: dict[str, Any]) -> set[str]:
    return {citation["document"] for citation in answer["citations"]}


def test_a_deleted_document_is_in_no_answer_not_even_in_one_being_written(bridge: Up, client: httpx2.Client) -> None:
    kept, gone = sent(client, "kept.md"), sent(client, "gone.md", TEXT + b"Carts pay five florins.\n")
    assert ask(client, "What is the toll?")["cache"] == "miss"
    assert ask(client, "What is the toll?")["cache"] == "hit"

    async def delete_while_it_is_written() -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=bridge.url, headers=client.headers, timeout=30) as other:
            writing = asyncio.create_task(other.post("/v1/ask", json={"question": "What do carts pay?"}))
            await asyncio.sleep(0.5)
            assert not writing.done()
            deleted = await other.delete(f"/v1/documents/{gone}")
            assert deleted.status_code == 204
            assert not writing.done(), "it was written to its end afterwards"
            return await writing

    asyncio.run(delete_while_it_is_written()).raise_for_status()
    for question in ("What is the toll?", "What do carts pay?"):
        again = ask(client, question)
        assert again["cache"] == "miss"
        assert cited(again) <= {"kept.md"}
    client.delete(f"/v1/documents/{kept}").raise_for_status()


def test_while_redis_is_away_a_deletion_is_not_acknowledged_and_done_as_soon_as_it_is_back(
    bridge: Up, client: httpx2.Client
) -> None:
    document = sent(client, "away.md")
    operator = bridge.cli("keys", "create", "--all-bus", "ops")["secret"]
    with bridge.client(operator) as admin:
        assert ask(client, "Who walks free?")["cache"] == "miss"
        assert admin.get("/v1/admin/cache").json()["answers"] > 0
        with Frozen(bridge):
            refused = client.delete(f"/v1/documents/{document}")
            assert refused.status_code == 503
            assert "the document is deleted, but cached answers made from it are not yet" in refused.json()["detail"]
            assert client.get(f"/v1/documents/{document}").status_code == 404
        deadline = time.monotonic() + 20
        while admin.get("/v1/admin/cache").json()["answers"]:
            assert time.monotonic() < deadline, "the loop forgets what was made from it"
            time.sleep(0.1)


def test_redis_that_forgot_everything_is_told_the_steps_again(bridge: Up, client: httpx2.Client) -> None:
    sent(client, "steps.md")
    assert bridge.cli("guardrail", "set", "cache_only")["moved"][0]["scope"] == "bu:default"
    assert client.post("/v1/ask", json={"question": "Is it free?"}).status_code == 503
    with redis_of(bridge) as connection:
        connection.flushall()
    deadline = time.monotonic() + 40
    while (refused := client.post("/v1/ask", json={"question": "Is it free?"})).json().get("code") != "guardrail":
        assert refused.status_code == 503, "nobody is served meanwhile"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [row["step"] for row in bridge.cli("guardrail", "reset", "--all")["moved"]] == ["full"]
    # Until the counters are open again the process goes by the step that it knew.
    while (answered := client.post("/v1/ask", json={"question": "Is it free?"})).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answered.raise_for_status().json()["step"] == "full"
    status = bridge.cli("guardrail", "status")
    assert {row["step"] for row in status["scopes"]} == {"full"}
    assert [move["to_level"] for move in status["moves"][:2]] == [0, 2]
