from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from pilotis.contract.costs import Costs, Step
from pilotis.contract.load import parse
from pilotis.derive.cost import ceiling
from pilotis.derive.ladder import STEPS, rungs
from pilotis.derive.plan import Env, Plan, derive

PAID = """
[costs.prices.rr]
per_1k_calls = 2
[envs.prod]
llm = "gpt-5-pro"
compact = "gpt-5-nano"
top_k = 40
flags = ["rerank"]
reranker = { model = "rr", base_url = "http://rr" }
"""


def plan_of(toml: str = PAID) -> Plan:
    return derive(parse(toml, Path("pilotis.toml")))


def prod(**changes: object) -> Env:
    return replace(plan_of().env("prod"), **changes)  # type: ignore[arg-type]


def steps(env: Env) -> list[str]:
    return [rung.step for rung in rungs(env)]


def test_the_contract_knows_the_same_steps() -> None:
    assert STEPS == get_args(Step) == Costs().ladder


def test_each_step_adds_to_those_before() -> None:
    ladder = rungs(prod())
    assert [rung.step for rung in ladder] == ["full", *STEPS]
    assert [rung.env.rerank for rung in ladder] == [True, *[False] * 5]
    assert [rung.env.top_k for rung in ladder] == [40, 40, *[10] * 4]
    assert [rung.env.llm.model for rung in ladder] == [*["gpt-5-pro"] * 3, *["gpt-5-nano"] * 3]
    assert [rung.serves for rung in ladder] == ["all"] * 4 + ["cache", "nothing"]


def test_the_order_is_the_contracts() -> None:
    assert steps(prod(ladder=("compact_model", "refuse"))) == ["full", "compact_model", "refuse"]
    assert steps(prod(ladder=())) == ["full"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"rerank": False}, "no_rerank"),
        ({"top_k": 10}, "smaller_top_k"),
        ({"compact": None}, "compact_model"),
        ({"compact": plan_of().env("prod").llm}, "compact_model"),
    ],
)
def test_a_step_that_changes_nothing_is_left_out(changes: dict[str, object], missing: str) -> None:
    assert steps(prod(**changes)) == ["full", *(step for step in STEPS if step != missing)]


def test_no_step_costs_more_than_the_one_before() -> None:
    plan = plan_of()
    micros = [ceiling(rung.env, plan).micro for rung in rungs(plan.env("prod"))]
    assert micros == sorted(micros, reverse=True)
    assert len(set(micros)) == 3  # a smaller top_k lowers what is usual, not what the caps allow
