from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotis.contract.costs import Costs, Estimate, ModelPrice
from pilotis.contract.load import default, load, parse
from pilotis.derive.cost import Usage, Work, elsewhere, price
from pilotis.derive.estimate import at_list_price, estimate, estimate_env
from pilotis.derive.plan import Plan, derive
from pilotis.derive.prices import Fx, book_of, list_prices

EXAMPLES = Path(__file__).parents[3] / "examples"
PAR = Fx(usd_per_eur=Decimal(1), date=dt.date(2025, 6, 30), source="test")


def plan_of(toml: str) -> Plan:
    return derive(parse(toml, Path("pilotis.toml")))


def test_the_specifications_example_table() -> None:
    quote = estimate(Estimate(), passages=20, rerank=True, tok_in=900, tok_out=250)
    parts = (quote.embedding_eur_per_1k, quote.reranker_eur_per_1k, quote.llm_eur_per_1k, quote.infra_eur_per_1k)
    assert parts == (Decimal("2.00"), Decimal("1.00"), Decimal("11.50"), Decimal("2.00"))
    assert quote.total_eur_per_1k == Decimal("16.50")
    assert quote.eur_per_req == Decimal("0.0165")


def test_the_specifications_own_prod_row() -> None:
    plan = derive(load(EXAMPLES / "specification.json"))
    quote = estimate_env(plan.env("prod"), plan)
    parts = (quote.embedding_eur_per_1k, quote.reranker_eur_per_1k, quote.llm_eur_per_1k, quote.infra_eur_per_1k)
    assert parts == (Decimal("5.00"), Decimal("2.50"), Decimal("11.50"), Decimal("2.00"))
    assert quote.total_eur_per_1k == Decimal("21.00")
    assert quote.eur_per_req == Decimal("0.0210")


def test_a_request_at_its_caps() -> None:
    plan = derive(load(EXAMPLES / "specification.json"))
    assert estimate(Estimate(), passages=20, rerank=True, tok_in=1200, tok_out=400).eur_per_req == Decimal("0.0210")
    assert estimate_env(plan.env("prod"), plan, at_caps=True).eur_per_req == Decimal("0.0255")


def test_extractive_answers_are_estimated_without_an_llm() -> None:
    plan = derive(default())
    assert estimate_env(plan.env("dev"), plan).llm_eur_per_1k == 0


def test_the_list_price_of_gpt_5_pro() -> None:
    usage = Usage(model="gpt-5-pro", provider="openai", input_tokens=900, output_tokens=250)
    assert price(usage, list_prices(), PAR).cost_eur * 1000 == Decimal("43.5")
    plan = derive(load(EXAMPLES / "specification.json"))
    prod = plan.env("prod")
    listed = at_list_price(estimate_env(prod, plan), prod, plan)
    assert listed.llm_eur_per_1k == Decimal("38.309114927000")  # 43.5 / 1.1355
    assert listed.total_eur_per_1k == Decimal("47.809114927000")


@given(
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.decimals("0.5", 2, places=4),
    st.decimals(0, 1000, places=6),
)
def test_cost_is_exact_and_rounded_once(read: int, cached: int, written: int, rate: Decimal, unit: Decimal) -> None:
    cached = min(cached, read)
    book = book_of(
        Costs(
            prices={
                "m": ModelPrice(currency="USD", input_per_mtok=unit, cached_input_per_mtok=unit / 10, output_per_mtok=unit * 8)
            }
        )
    )
    usage = Usage(model="m", provider="custom", input_tokens=read, cached_tokens=cached, output_tokens=written)
    found = price(usage, book, replace(PAR, usd_per_eur=rate))
    exact = Fraction(unit) * (Fraction(read - cached) + Fraction(cached, 10) + 8 * written) / 1_000_000 / Fraction(rate)
    assert abs(Fraction(found.cost_eur) - exact) <= Fraction(1, 2 * 10**12)
    assert found.cost_eur.as_tuple().exponent == -12
    assert found.priced


def test_halves_go_to_even() -> None:
    def cost(tokens: int) -> Decimal:
        book = book_of(Costs(prices={"m": ModelPrice(input_per_mtok=Decimal("0.0000005"))}))
        return price(Usage(model="m", provider="custom", input_tokens=tokens), book, PAR).cost_eur

    assert (cost(1), cost(3)) == (Decimal("0E-12"), Decimal("2E-12"))


def test_the_callers_decimal_precision_does_not_matter() -> None:
    usage = Usage(model="gpt-5-pro", provider="openai", input_tokens=123_457, output_tokens=7)
    with localcontext(prec=3):
        rough = price(usage, list_prices(), PAR).cost_eur
    assert rough == price(usage, list_prices(), PAR).cost_eur == Decimal("1.852695")


def test_cached_tokens_cost_less_and_reasoning_is_part_of_the_output() -> None:
    usage = Usage(
        model="gpt-5-mini", provider="openai", input_tokens=1000, cached_tokens=800, output_tokens=100, reasoning_tokens=90
    )
    assert price(usage, list_prices(), PAR).cost_eur == Decimal("0.000270")  # 200 x 0.25 + 800 x 0.025 + 100 x 2, per million


def test_cached_tokens_without_a_price_cost_as_input() -> None:
    usage = Usage(model="gpt-5-pro", provider="openai", input_tokens=1000, cached_tokens=800)
    assert price(usage, list_prices(), PAR).cost_eur == Decimal("0.015")


def test_an_unknown_price_is_never_a_silent_zero() -> None:
    found = price(Usage(model="nobody", provider="custom", input_tokens=10), list_prices(), PAR)
    assert not found.priced
    assert found.cost_eur == 0
    assert found.fx is None


def test_half_a_price_prices_half() -> None:
    book = book_of(Costs(prices={"m": ModelPrice(input_per_mtok=Decimal(1))}))
    found = price(Usage(model="m", provider="custom", input_tokens=1_000_000, output_tokens=1), book, PAR)
    assert (found.priced, found.cost_eur) == (False, Decimal(1))
    assert price(Usage(model="m", provider="custom", input_tokens=1), book, PAR).priced


def test_a_call_priced_by_the_call() -> None:
    book = book_of(Costs(prices={"rr": ModelPrice(currency="USD", per_1k_calls=Decimal(2))}))
    found = price(Usage(model="rr", provider="cohere", input_tokens=5000), book, replace(PAR, usd_per_eur=Decimal("1.25")))
    assert (found.cost_eur, found.priced) == (Decimal("0.0016"), True)


def test_the_rate_is_kept_where_dollars_were_changed_and_only_there() -> None:
    dollars = price(Usage(model="gpt-5-mini", provider="openai", input_tokens=1), list_prices(), PAR)
    local = price(Usage(model="all-MiniLM-L6-v2", provider="local", input_tokens=1), list_prices(), PAR)
    assert dollars.fx == PAR.record()
    assert local.fx is None
    assert (local.priced, local.cost_eur) == (True, Decimal(0))


@pytest.mark.parametrize(("read", "cached", "written"), [(-5, 0, -7), (0, 10, 0), (0, -3, 0)])
def test_counts_that_cannot_be_book_nothing_below_zero(read: int, cached: int, written: int) -> None:
    usage = Usage(model="gpt-5-mini", provider="openai", input_tokens=read, cached_tokens=cached, output_tokens=written)
    assert price(usage, list_prices(), PAR).cost_eur == 0


WORK = Work(question_tokens=12, prompt_tokens=900, answer_tokens=250, passages=20)


def test_what_an_extractive_answer_would_have_cost_elsewhere() -> None:
    others = elsewhere(WORK, "dev", derive(default()))
    # gpt-5-mini: 0.000725 USD; 30 passages reranked at the contract's 0.00005 EUR
    assert others == {"staging": Decimal("0.002138485249"), "prod": Decimal("0.040809114927")}


def test_elsewhere_reranks_no_more_than_the_corpus_holds() -> None:
    few = replace(WORK, passages=3)
    others = elsewhere(few, "dev", derive(default()))
    assert others["prod"] == Decimal("0.038309114927") + 3 * Decimal("0.00005")


def test_elsewhere_knows_a_named_reranker_and_what_is_unknown() -> None:
    plan = plan_of(
        """
        [costs.prices.rr]
        per_1k_calls = 2
        [costs.prices.free]
        input_per_mtok = 0
        output_per_mtok = 0
        [envs.dev]
        llm = "extractive"
        [envs.named]
        llm = "free"
        flags = ["rerank"]
        reranker = { model = "rr", base_url = "http://rr" }
        [envs.unknown]
        llm = "nobody-knows"
        [envs.unpriced-reranker]
        llm = "free"
        flags = ["rerank"]
        reranker = "rerank-v3.5"
        [envs.off]
        llm = "extractive"
        """
    )
    assert elsewhere(WORK, "dev", plan) == {
        "named": Decimal("0.002"),
        "unknown": None,
        "unpriced-reranker": None,
        "off": 0,
    }


def test_elsewhere_caps_tokens_as_the_other_env_would() -> None:
    plan = plan_of("[perf]\ntok_in_max = 100\ntok_out_max = 10\n[envs.dev]\nllm='extractive'\n[envs.mini]\nllm='gpt-5-mini'")
    in_usd = (100 * Decimal("0.25") + 10 * Decimal(2)) / 1_000_000
    assert elsewhere(WORK, "dev", plan)["mini"] == (in_usd / Decimal("1.1355")).quantize(Decimal("1e-12"))


def test_the_dearest_price_stands_in_class_by_class_and_is_counted_as_unpriced() -> None:
    book = book_of(
        Costs(
            prices={"ours/big": ModelPrice(input_per_mtok=Decimal(3), output_per_mtok=Decimal(30), per_1k_calls=Decimal(500))}
        )
    )
    half = replace(book, agreed={**book.agreed, "half": ModelPrice(input_per_mtok=Decimal(1))})

    def cost(model: str, provider: str = "ours", *, read: int = 0, cached: int = 0, wrote: int = 0) -> tuple[Decimal, bool]:
        usage = Usage(
            model=model,
            provider=provider,
            input_tokens=read * 1_000_000,
            cached_tokens=cached * 1_000_000,
            output_tokens=wrote * 1_000_000,
        )
        found = price(usage, half, replace(PAR, usd_per_eur=Decimal("1.3")), on_unknown="dearest")
        return found.cost_eur, found.priced

    assert cost("small", read=1, wrote=1) == (Decimal("33.5"), False)
    assert cost("half", read=1, wrote=1) == (Decimal(31), False)
    assert cost("half", read=1, cached=1) == (Decimal(1), True)
    assert cost("big", read=1, wrote=1) == (Decimal("33.5"), True)
    assert cost("small", "nowhere", read=1) == (Decimal(0), False)
    assert cost("all-MiniLM-L6-v2", "local", read=1) == (Decimal(0), True)


def test_the_price_of_the_day() -> None:
    entries = tuple(
        ModelPrice(valid_from=dt.date(2026, month, 1), input_per_mtok=Decimal(month), currency="USD") for month in (3, 6)
    )
    book = book_of(Costs(prices={"m": entries}))
    usage = Usage(model="m", provider="custom", input_tokens=1_000_000)
    days = (dt.date(2026, 5, 31), dt.date(2026, 6, 1), None)
    assert [price(usage, book, PAR, at=day).cost_eur for day in days] == [3, 6, 6]


def test_elsewhere_takes_the_prices_of_the_day() -> None:
    plan = plan_of(
        """
        [[costs.prices.m]]
        input_per_mtok = 1
        output_per_mtok = 0
        [[costs.prices.m]]
        valid_from = 2026-06-01
        input_per_mtok = 2
        output_per_mtok = 0
        [envs.dev]
        llm = "extractive"
        [envs.prod]
        llm = { model = "m", base_url = "http://m/v1" }
        flags = []
        """
    )
    days = (dt.date(2026, 5, 31), dt.date(2026, 6, 1))
    assert [elsewhere(WORK, "dev", plan, at=day)["prod"] for day in days] == [Decimal("0.0009"), Decimal("0.0018")]
