from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotis.contract.costs import ModelPrice
from pilotis.contract.load import parse
from pilotis.derive.budget import micro_up
from pilotis.derive.cost import LONGEST_PASSAGE_TOKENS, LONGEST_QUESTION_TOKENS, Usage, ceiling, is_covered, price, unpriced
from pilotis.derive.plan import Env, Plan, derive
from pilotis.rag.question import MAX_CHARACTERS

TODAY = dt.date(2026, 11, 23)


def plan_of(toml: str) -> Plan:
    return derive(parse(toml, Path("pilotis.toml")))


amounts = st.decimals(0, 200, places=4)
classes = st.fixed_dictionaries({}, optional={"input": amounts, "cached": amounts, "output": amounts})
tiers = st.lists(st.tuples(st.integers(1, 20_000), classes), max_size=2, unique_by=lambda tier: tier[0]).map(
    lambda found: [{"above": above, **units} for above, units in sorted(found, key=lambda tier: tier[0])]
)
rows = st.builds(lambda units, tiers: {**units, "tiers": tiers}, classes, tiers)
agreed = st.builds(
    ModelPrice,
    currency=st.sampled_from(["EUR", "USD"]),
    input_per_mtok=st.none() | amounts,
    cached_input_per_mtok=st.none() | amounts,
    output_per_mtok=st.none() | amounts,
    per_1k_calls=amounts,
)


PLAN = plan_of("""
    [envs.prod]
    llm = { model = "first", provider = "openai" }
    fallback = { model = "second", provider = "openai" }
    reranker = { model = "rr", provider = "cohere" }
    embedder = { model = "vectors", provider = "openai", dimension = 8 }
""")
days = st.lists(st.dates(dt.date(2026, 1, 1), dt.date(2027, 12, 31)), min_size=2, max_size=2, unique=True).map(sorted)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Plan, Env, dt.date]:
    """An env with any caps, and any prices of the four models that a request may call, some unknown, some dated."""
    listed: dict[str, Any] = {"openai": [], "cohere": []}
    prices: dict[str, Any] = {}
    for name in ("first", "second", "rr", "vectors"):
        if draw(st.booleans()):
            listed["cohere" if name == "rr" else "openai"].append({"id": name, **draw(rows)})
        if entries := draw(st.lists(agreed, max_size=2)):
            dated = zip(entries, draw(days), strict=False)
            prices[name] = tuple(entry.model_copy(update={"valid_from": day}) for entry, day in dated)
    fx = replace(PLAN.fx, usd_per_eur=draw(st.decimals("0.5", 2, places=4)))
    plan = replace(PLAN, book=replace(PLAN.book, listed=listed, agreed=prices), fx=fx)
    env = PLAN.env("prod")
    env = replace(
        env,
        on_unknown_price=draw(st.sampled_from(["block", "dearest", "serve"])),
        tok_in_max=draw(st.integers(64, 30_000)),
        tok_out_max=draw(st.integers(1, 5_000)),
        top_k=draw(st.integers(1, 200)),
        rerank=draw(st.booleans()),
        fallback=draw(st.sampled_from([None, env.fallback])),
    )
    return plan, env, draw(st.dates(TODAY, dt.date(2028, 1, 1)))


@given(worlds(), st.data())
@settings(max_examples=150, deadline=None)
def test_no_request_within_its_caps_costs_more(world: tuple[Plan, Env, dt.date], data: st.DataObject) -> None:
    plan, env, day = world
    calls = [Usage(model="vectors", provider="openai", input_tokens=data.draw(st.integers(0, LONGEST_QUESTION_TOKENS)))]
    searched = price(calls[0], plan.book, plan.fx, at=day, on_unknown=env.on_unknown_price).cost_eur
    assert micro_up(searched) <= ceiling(env, plan, kind="search", at=TODAY).micro
    if env.rerank:
        longest = LONGEST_QUESTION_TOKENS + LONGEST_PASSAGE_TOKENS
        passages = data.draw(st.integers(0, env.top_k))
        calls.append(Usage(model="rr", provider="cohere", input_tokens=passages * data.draw(st.integers(0, longest))))
    for model in ("first", "second") if env.fallback else ("first",):
        read = data.draw(st.integers(0, env.tok_in_max))
        wrote = data.draw(st.integers(0, env.tok_out_max))
        cached = data.draw(st.integers(0, env.tok_in_max))
        calls.append(
            Usage(
                model=model,
                provider="openai",
                input_tokens=read,
                cached_tokens=cached,
                output_tokens=wrote,
                reasoning_tokens=wrote,
            )
        )
    lines = [price(call, plan.book, plan.fx, at=day, on_unknown=env.on_unknown_price) for call in calls]
    spent = micro_up(sum((line.cost_eur for line in lines), Decimal(0)))
    assert spent <= ceiling(env, plan, at=TODAY).micro <= ceiling(env, plan).micro


@given(worlds())
@settings(max_examples=50, deadline=None)
def test_what_is_let_in_is_booked_in_full(world: tuple[Plan, Env, dt.date]) -> None:
    plan, env, _ = world
    found = ceiling(env, plan)
    assert found.priced == (not unpriced(env, plan))
    if env.on_unknown_price == "serve":
        assert found.priced
    writers = [env.llm] if env.fallback is None else [env.llm, env.fallback]
    covered = [
        is_covered(Usage(model=model.model, provider=model.provider, input_tokens=1, output_tokens=1), plan, on_unknown="block")
        for model in writers
    ]
    if env.on_unknown_price == "block" and found.priced:
        assert all(covered)


def test_the_figure_of_a_usual_contract() -> None:
    # gpt-5: 1100 x 1.25 + 350 x 10 = 4875 millionths of a dollar, at 1.25 dollars a euro
    plan = plan_of("""
        [perf]
        tok_in_max = 1100
        tok_out_max = 350
        [costs.fx]
        usd_per_eur = 1.25
        date = 2026-01-01
        [envs.prod]
        llm = "gpt-5"
        flags = []
        [envs.thrifty]
        llm = "gpt-5"
        flags = []
        fallback = "gpt-5-mini"
        [envs.free]
        llm = "extractive"
        [envs.reranked]
        llm = "extractive"
        flags = ["rerank"]
        top_k = 10
        reranker = { model = "rr", base_url = "http://rr" }
        [costs.prices.rr]
        input_per_mtok = 1
    """)
    assert ceiling(plan.env("prod"), plan).micro == 3900
    assert ceiling(plan.env("prod"), plan, kind="search").micro == 0
    assert ceiling(plan.env("thrifty"), plan).micro == 3900 + 780
    assert ceiling(plan.env("free"), plan).micro == 0
    assert ceiling(plan.env("reranked"), plan).micro == 10 * (4000 + 512)
    assert ceiling(plan.env("reranked"), plan, kind="search").micro == 0


def test_a_part_of_a_micro_euro_is_a_whole_one() -> None:
    plan = plan_of("""
        [perf]
        tok_in_max = 64
        tok_out_max = 1
        [costs.prices.m]
        input_per_mtok = 0.0001
        output_per_mtok = 0
        [envs.dev]
        llm = { model = "m", base_url = "http://m/v1" }
    """)
    assert ceiling(plan.env("dev"), plan).micro == 1


def test_long_passages_are_reckoned_with() -> None:
    toml = """
        [perf]
        passage_tokens = 1000
        [costs.prices.rr]
        input_per_mtok = 1
        [envs.dev]
        llm = "extractive"
        flags = ["rerank"]
        top_k = 1
        reranker = { model = "rr", base_url = "http://rr" }
    """
    plan = plan_of(toml)
    assert ceiling(plan.env("dev"), plan).micro == 4000 + 2000


def test_the_longest_question_is_that_of_the_edge() -> None:
    assert LONGEST_QUESTION_TOKENS == MAX_CHARACTERS


def test_of_dated_prices_those_to_come_count() -> None:
    plan = plan_of("""
        [perf]
        tok_in_max = 1000
        tok_out_max = 1
        [[costs.prices.m]]
        input_per_mtok = 9
        output_per_mtok = 0
        [[costs.prices.m]]
        valid_from = 2026-06-01
        input_per_mtok = 1
        output_per_mtok = 0
        [[costs.prices.m]]
        valid_from = 2026-12-01
        input_per_mtok = 2
        output_per_mtok = 0
        [envs.dev]
        llm = { model = "m", base_url = "http://m/v1" }
    """)
    env = plan.env("dev")
    days = (None, dt.date(2026, 5, 31), dt.date(2026, 6, 1), TODAY, dt.date(2027, 1, 1))
    assert [ceiling(env, plan, at=day).micro for day in days] == [9000, 9000, 2000, 2000, 2000]


UNKNOWN = """
[costs]
on_unknown_price = "{policy}"
[envs.listed]
llm = "gpt-5-of-tomorrow"
flags = []
[envs.custom]
llm = {{ model = "mine", base_url = "http://m/v1" }}
flags = []
[envs.local]
llm = "extractive"
[envs.reranked]
llm = "extractive"
flags = ["rerank"]
reranker = {{ model = "rr", base_url = "http://rr" }}
"""


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        ("block", {"listed": ("gpt-5-of-tomorrow",), "custom": ("mine",), "reranked": ("rr",)}),
        ("dearest", {"custom": ("mine",), "reranked": ("rr",)}),
        ("serve", {}),
    ],
)
def test_which_requests_are_refused_for_want_of_a_price(policy: str, refused: dict[str, tuple[str, ...]]) -> None:
    plan = plan_of(UNKNOWN.format(policy=policy))
    assert {name: found for name, env in plan.envs.items() if (found := unpriced(env, plan))} == refused
    assert {name for name, env in plan.envs.items() if not ceiling(env, plan).priced} == set(refused)
    assert not any(unpriced(env, plan, kind="search") for env in plan.envs.values())


def test_half_a_price_is_none_for_a_writer_and_enough_for_an_embedder() -> None:
    plan = plan_of("""
        [costs]
        on_unknown_price = "block"
        [costs.prices.half]
        input_per_mtok = 1
        [envs.dev]
        llm = { model = "half", base_url = "http://m/v1" }
        embedder = { model = "half", base_url = "http://m/v1", dimension = 8 }
    """)
    env = plan.env("dev")
    assert unpriced(env, plan) == ("half",)
    assert unpriced(env, plan, kind="search") == ()


@pytest.mark.parametrize(("policy", "is_booked"), [("dearest", True), ("serve", False), ("block", False)])
def test_what_stands_in_for_an_unknown_price(policy: Literal["block", "dearest", "serve"], is_booked: bool) -> None:
    plan = plan_of(f"""
        [costs]
        on_unknown_price = "{policy}"
        fx = {{ usd_per_eur = 1, date = 2026-01-01 }}
        [perf]
        tok_out_max = 1000
        [envs.dev]
        llm = {{ model = "gpt-9", provider = "openai" }}
        flags = []
    """)
    dearest = plan.book.dearest("openai", plan.fx)
    assert dearest is not None
    assert dearest.output is not None
    wrote = Usage(model="gpt-9", provider="openai", output_tokens=1_000)
    found = price(wrote, plan.book, plan.fx, on_unknown=policy)
    assert not found.priced
    assert micro_up(found.cost_eur) == (micro_up(dearest.output / 1000) if is_booked else 0)
    assert (ceiling(plan.env("dev"), plan).micro > micro_up(found.cost_eur)) == is_booked


def test_the_compact_model_needs_a_price_where_the_ladder_leads_to_it() -> None:
    toml = """
        [costs]
        ladder = ["{step}", "refuse"]
        [envs.dev]
        llm = "gpt-5"
        flags = []
        compact = {{ model = "mine", base_url = "http://m/v1" }}
    """
    needed, idle = (plan_of(toml.format(step=step)) for step in ("compact_model", "no_rerank"))
    assert unpriced(needed.env("dev"), needed) == ("mine",)
    assert unpriced(needed.env("dev"), needed, kind="search") == ()
    assert unpriced(idle.env("dev"), idle) == ()
