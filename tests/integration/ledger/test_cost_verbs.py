"""`pilotis cost report` and `pilotis cost audit`, as they are typed, on real servers."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.adapters import postgres
from pilotis.cli import cost_report, run
from pilotis.contract.presets import default
from pilotis.derive.cost import Usage, price
from pilotis.derive.plan import derive
from pilotis.ports import CostEvent

if TYPE_CHECKING:
    from pilotis.embedded import Addresses

AT = datetime(2026, 6, 15, 12, tzinfo=UTC)
PLAN = derive(default())


def event(name: str, bu: str, model: str, tokens: int, at: datetime = AT) -> CostEvent:
    calls = [Usage(model=model, provider="openai", input_tokens=tokens, output_tokens=tokens // 2)]
    priced = price(calls[0], PLAN.book, PLAN.fx, at=at.date())
    return CostEvent(
        id=name,
        at=at,
        env="dev",
        plane="online",
        bu=bu,
        kind="answer",
        subject=name,
        model=model,
        usage={"calls": [asdict(call) for call in calls]},
        cost_eur=priced.cost_eur,
        price_book=priced.price_book,
        fx=priced.fx,
        priced=priced.priced,
        instance="an instance that is gone",
    )


EVENTS = (
    event("a", "sales", "gpt-5-pro", 1000),
    event("b", "sales", "gpt-5-mini", 600),
    event("c", "legal", "gpt-5-mini", 400),
    event("now", "sales", "gpt-5-mini", 800, datetime.now(UTC)),
)
COSTS = {one.id: one.cost_eur for one in EVENTS}


@pytest.fixture(scope="module")
def filled(database: str) -> str:
    async def fill() -> None:
        pool = await postgres.open_pool(database)
        ledger = postgres.PostgresLedger(pool, env="dev")
        for one in EVENTS:
            await ledger.append(one)
        await pool.close()

    asyncio.run(fill())
    return database


@pytest.fixture
def pilotis(
    filled: str, stack: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    (tmp_path / "pilotis.toml").write_text('name = "verbs"\n[envs.dev]\nllm = "extractive"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILOTIS_DATABASE_URL", filled)
    monkeypatch.setenv("PILOTIS_REDIS_URL", stack.redis_url)
    monkeypatch.setenv("PILOTIS_DATA", str(tmp_path / "data"))

    def call(*args: str) -> tuple[int, str]:
        code = run(args)
        told = capsys.readouterr()
        print(told.err)
        return code, told.out

    return call


def document(told: tuple[int, str]) -> Any:
    assert told[0] == 0
    return json.loads(told[1])


def test_a_report_in_the_contracts_calendar(pilotis: Callable[..., tuple[int, str]]) -> None:
    found = document(pilotis("cost", "report", "2026-06", "--by", "bu,model", "--json"))
    assert {(row["bu"], row["model"]): Decimal(row["cost_eur"]) for row in found["rows"]} == {
        ("legal", "gpt-5-mini"): COSTS["c"],
        ("sales", "gpt-5-mini"): COSTS["b"],
        ("sales", "gpt-5-pro"): COSTS["a"],
    }
    assert Decimal(found["total"]["cost_eur"]) == COSTS["a"] + COSTS["b"] + COSTS["c"]
    assert (found["total"]["requests"], found["since"], found["timezone"]) == (3, "2026-05-31T22:00:00+00:00", "Europe/Paris")
    one = document(pilotis("cost", "report", "2026-06", "--bu", "legal", "--json"))
    assert (one["bu"], Decimal(one["total"]["cost_eur"])) == ("legal", COSTS["c"])


def test_what_june_would_have_cost_on_another_model(pilotis: Callable[..., tuple[int, str]]) -> None:
    found = document(pilotis("cost", "report", "2026-06", "--by", "model", "--as-if", "llm=gpt-5-mini", "--json"))
    rows = {row["model"]: row for row in found["rows"]}
    assert Decimal(rows["gpt-5-mini"]["difference_eur"]) == 0
    assert Decimal(rows["gpt-5-pro"]["as_if_eur"]) == event("x", "x", "gpt-5-mini", 1000).cost_eur
    assert Decimal(rows["gpt-5-pro"]["difference_eur"]) < 0
    code, shown = pilotis("cost", "report", "2026-06", "--as-if", "llm=gpt-5-mini")
    assert code == 0
    assert "as if llm = gpt-5-mini" in shown
    assert "-9" in shown
    assert "█" * 24 in shown


def test_a_table_for_programs(pilotis: Callable[..., tuple[int, str]]) -> None:
    code, text = pilotis("cost", "report", "--since", "2026-06", "--until", "2026-06", "--by", "day", "--csv")
    (row,) = csv.DictReader(text.splitlines())
    assert (code, row["day"], row["requests"]) == (0, "2026-06-15", "3")
    assert Decimal(row["cost_eur"]) == COSTS["a"] + COSTS["b"] + COSTS["c"]


@pytest.mark.parametrize(
    "wrong", [["June"], ["--by", "weather"], ["--as-if", "llm"], ["--as-if", "weather=x"], ["today", "--since", "7d"]]
)
def test_what_makes_no_sense_is_refused(pilotis: Callable[..., tuple[int, str]], wrong: list[str]) -> None:
    assert pilotis("cost", "report", *wrong) == (1, "")


def test_an_audit_finds_what_was_tampered_with_and_repairs_it(
    pilotis: Callable[..., tuple[int, str]], stack: Addresses
) -> None:
    found = document(pilotis("cost", "audit", "--json"))
    assert (found["agrees"], found["differences"]) == (True, [])
    figures = {one["place"]: (Decimal(one["ledger_eur"]), Decimal(one["other_eur"])) for one in found["compared"]}
    assert figures["env month"][0] == figures["bu:sales day"][1] > 0
    assert Decimal(found["not_compared"]["an instance that is gone"]) == COSTS["now"]

    asyncio.run(_tamper(stack.redis_url))
    code, shown = pilotis("cost", "audit")
    assert code == 1
    assert "counter env month: +0.000005 €: the counter has what the ledger has not" in shown
    code, shown = pilotis("cost", "audit", "--repair")
    assert (code, "agree with the ledger to the micro-euro" in shown) == (0, True)


async def _tamper(url: str) -> None:
    from redis.asyncio import Redis

    from pilotis.derive.budget import spans

    month = spans(datetime.now(UTC), "Europe/Paris")[2]
    async with Redis.from_url(url) as client:
        (meter,) = [key async for key in client.scan_iter(match="*verbs*:meter")]
        await client.hincrby(meter, f"s|env|{month.id}", 5)


def test_bars_show_whatever_is_above_zero() -> None:
    bar = cost_report.bar
    assert bar(Decimal(0), Decimal(1)) == bar(Decimal(1), Decimal(0)) == ""
    assert bar(Decimal("0.000001"), Decimal(1)) == "▏"
    assert bar(Decimal("0.5"), Decimal(1)) == "█" * 12
    assert bar(Decimal(1), Decimal(1)) == "█" * 24
