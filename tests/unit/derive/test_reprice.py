from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pilotis.contract.load import parse
from pilotis.derive.cost import Usage, part_of, price, reprice
from pilotis.derive.plan import Plan, derive
from pilotis.errors import Invalid

PLAN: Plan = derive(
    parse(
        """
        [costs.fx]
        usd_per_eur = 1.25
        date = 2026-01-01
        [costs.prices.rr]
        per_1k_calls = 2
        [costs.prices.big]
        input_per_mtok = 10
        output_per_mtok = 100
        [[costs.prices.dated]]
        input_per_mtok = 1
        output_per_mtok = 1
        [[costs.prices.dated]]
        valid_from = 2026-07-01
        input_per_mtok = 2
        output_per_mtok = 2
        [envs.prod]
        llm = "gpt-5"
        flags = ["rerank"]
        reranker = { model = "rr", base_url = "http://rr" }
        embedder = "text-embedding-3-small"
        [envs.own]
        llm = { model = "big", base_url = "http://big/v1" }
        """,
        Path("pilotis.toml"),
    )
)
EMBEDDED = Usage(model="text-embedding-3-small", provider="openai", input_tokens=100)
RERANKED = Usage(model="rr", provider="custom", input_tokens=5_000, estimated=True)
WROTE = Usage(model="gpt-5", provider="openai", input_tokens=1_000, output_tokens=200, cached_tokens=400, reasoning_tokens=50)
CALLS = [asdict(usage) for usage in (EMBEDDED, RERANKED, WROTE)]


def cost(usage: Usage) -> Decimal:
    return price(usage, PLAN.book, PLAN.fx).cost_eur


def test_without_another_model_it_is_what_it_was() -> None:
    found = reprice(CALLS, PLAN, {})
    assert found.cost_eur == sum(map(cost, (EMBEDDED, RERANKED, WROTE)))
    assert (found.priced, found.price_book, found.fx) == (True, PLAN.book.id, PLAN.fx.record())


def test_another_llm_reads_and_writes_the_same_tokens() -> None:
    # 600 x 0.25 + 400 x 0.025 + 200 x 2 millionths of a dollar
    mini = reprice(CALLS, PLAN, {"llm": "gpt-5-mini"}).cost_eur - cost(EMBEDDED) - cost(RERANKED)
    assert mini == Decimal("0.000448")
    own = reprice(CALLS, PLAN, {"llm": "big"}).cost_eur - cost(EMBEDDED) - cost(RERANKED)
    assert own == Decimal("0.03")


def test_other_parts() -> None:
    dearer = reprice(CALLS, PLAN, {"embedder": "text-embedding-3-large", "reranker": "big"}).cost_eur
    assert dearer == (Decimal(13) / 1_250_000).quantize(Decimal("1e-12")) + Decimal("0.05") + cost(WROTE)


def test_none_at_all_costs_nothing() -> None:
    assert reprice(CALLS, PLAN, {"llm": "extractive"}).cost_eur == cost(EMBEDDED) + cost(RERANKED)
    assert reprice([], PLAN, {"llm": "big"}).cost_eur == 0


def test_a_provider_may_be_named() -> None:
    found = reprice(CALLS[2:], PLAN, {"llm": "groq/llama-3.3-70b-versatile"})
    listed = PLAN.book.find("groq", "llama-3.3-70b-versatile")
    assert listed is not None
    assert found.priced
    assert found.cost_eur == cost(
        Usage(model="llama-3.3-70b-versatile", provider="groq", input_tokens=1000, cached_tokens=400, output_tokens=200)
    )


def test_prices_of_a_day() -> None:
    by_day = [reprice(CALLS[2:], PLAN, {"llm": "dated"}, at=day).cost_eur for day in (_day("06-30"), _day("07-01"), None)]
    assert by_day == [Decimal("0.0012"), Decimal("0.0024"), Decimal("0.0024")]


def _day(text: str) -> Any:
    import datetime as dt

    return dt.date.fromisoformat(f"2026-{text}")


def test_a_model_nobody_knows_is_not_free() -> None:
    found = reprice(CALLS, PLAN, {"llm": "nobody-knows"})
    assert not found.priced
    assert found.cost_eur == cost(EMBEDDED) + cost(RERANKED)


def test_a_part_that_there_is_not() -> None:
    with pytest.raises(Invalid, match="'writer' is no part") as caught:
        reprice(CALLS, PLAN, {"writer": "big"})
    assert "llm, embedder, reranker" in caught.value.remedy


def test_calls_of_older_versions_may_say_less_and_newer_ones_more() -> None:
    call = {"model": "big", "provider": "custom", "input_tokens": 100, "of_tomorrow": 1}
    assert reprice([call], PLAN, {}).cost_eur == Decimal("0.001")


@pytest.mark.parametrize(
    ("usage", "part"),
    [
        (EMBEDDED, "embedder"),
        (RERANKED, "reranker"),
        (WROTE, "llm"),
        (Usage(model="gpt-5", provider="openai", input_tokens=900), "llm"),
        (Usage(model="big", provider="custom", input_tokens=900), "llm"),
        (Usage(model="gpt-4o", provider="openai", input_tokens=900), "llm"),
        (Usage(model="gone", provider="custom", output_tokens=1), "llm"),
        (Usage(model="gone", provider="custom", input_tokens=1), "embedder"),
        (Usage(model="all-MiniLM-L6-v2", provider="local", input_tokens=9), "embedder"),
        (Usage(model="text-embedding-ada-002", provider="openai", input_tokens=9), "embedder"),
    ],
)
def test_which_part_a_call_was(usage: Usage, part: str) -> None:
    assert part_of(usage, PLAN) == part
