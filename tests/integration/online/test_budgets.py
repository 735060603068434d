"""500 at once against one euro: never a cent more is spent, and nearly all of it can be, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from integration.conftest import Up

MODEL = "mock-ttft150-read900-wrote250-len3"
CONTRACT = """
[perf]
total_s = 20
first_byte_s = 10

[costs]
guardrail_eur_per_req = 1

[envs.dev]
llm = {{ model = "{model}", base_url = "{simulator}" }}
cache_ttl_s = 0

[envs.dev.budgets]
env = {{ month_eur = 1.00 }}

[costs.prices."{model}"]
input_per_mtok = 10
output_per_mtok = 10
per_1k_calls = 5
"""
# 5 EUR for a thousand calls, 900 tokens read and 250 written: 0.0165 EUR. At its caps of 1200 and 400: 0.021 EUR.
COST_EUR = Decimal("0.0165")
AT_ONCE = 500


@dataclass
class Told:
    """What the clients were told."""

    answers: list[Decimal] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    broken: int = 0


async def ask_all(up: Up, secret: str, *, midway: Callable[[], None] | None = None) -> Told:
    """As many clients as AT_ONCE, each of whom comes back when told to, until it is answered or the money is spent."""
    told = Told()
    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with httpx2.AsyncClient(
        base_url=up.url, headers={"authorization": f"Bearer {secret}"}, timeout=60, limits=limits
    ) as client:

        async def one(n: int) -> None:
            for _ in range(40):
                try:
                    response = await client.post("/v1/ask", json={"question": f"How is the cost of answer {n} computed?"})
                except httpx2.TransportError:
                    told.broken += 1
                    return
                body: dict[str, Any] = response.json() if response.status_code < 500 else {"code": str(response.status_code)}
                if response.status_code == 200:
                    told.answers.append(Decimal(body["cost_eur"]))
                    if midway and len(told.answers) == 10:
                        midway()
                    return
                told.refusals[body["code"]] += 1
                if body["code"] == "budget_exceeded":
                    return
                await asyncio.sleep(float(response.headers.get("retry-after", "1")))

        await asyncio.gather(*(one(n) for n in range(AT_ONCE)))
    return told


@pytest.fixture
def spend(tmp_path: Path, start_up: Callable[..., Up], simulator: str) -> Callable[..., tuple[Up, str]]:
    def started(*options: str) -> tuple[Up, str]:
        up = start_up(tmp_path / "data", *options, contract=CONTRACT.format(model=MODEL, simulator=simulator))
        _, secret = up.key("default")
        with up.client(secret) as client:
            text = "The cost of an answer is the sum over its model calls. " * 20
            sent = client.post("/v1/documents?wait=20", files={"file": ("costs.md", text, "text/markdown")})
            assert sent.status_code < 300, sent.text
            for _ in range(100):
                if client.get("/v1/documents").json()["documents"][0]["state"] == "indexed":
                    break
                asyncio.run(asyncio.sleep(0.1))
        return up, secret

    return started


def booked(up: Up) -> tuple[Decimal, int]:
    """What the ledger has, once everything under way has arrived."""
    report = up.cli("cost", "report", "--by", "kind")
    lines = {row["kind"]: row for row in report["rows"]}
    return Decimal(lines["answer"]["cost_eur"]), lines["answer"]["requests"]


@pytest.mark.timeout(400)
def test_one_euro_among_500_at_once(spend: Callable[..., tuple[Up, str]]) -> None:
    up, secret = spend()
    told = asyncio.run(ask_all(up, secret))
    spent_eur, requests = booked(up)
    assert set(told.answers) == {COST_EUR}
    # On a machine without a core to spare a client may lose its connection: what it was about to be told is booked all the same.
    assert len(told.answers) <= requests <= len(told.answers) + told.broken
    assert spent_eur == requests * COST_EUR
    assert Decimal("0.90") <= spent_eur <= 1
    assert told.refusals["budget_exceeded"] + told.broken == AT_ONCE - len(told.answers)


@pytest.mark.skipif(
    shutil.which("haproxy", path=os.defpath + ":/usr/sbin") is None, reason="haproxy is not installed: apt-get install haproxy"
)
@pytest.mark.timeout(400)
def test_one_euro_among_four_processes_of_which_one_is_killed(spend: Callable[..., tuple[Up, str]]) -> None:
    up, secret = spend("--processes", "4")
    victim = up.pids("pilotis.api")[0]
    told = asyncio.run(ask_all(up, secret, midway=lambda: os.kill(victim, signal.SIGKILL)))
    spent_eur, _ = booked(up)
    held_eur = Decimal(str(up.metric("rag_budget_held_eur", scope="env", window="month")))
    assert sum(told.answers) <= spent_eur
    # What the killed process had begun is held until it counts as spent: it can never be spent twice.
    assert Decimal("0.90") <= spent_eur + held_eur <= 1
    assert told.refusals["budget_exceeded"] > 0
