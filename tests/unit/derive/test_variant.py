"""Settings changed for one run: what may be, how it is written, and how a fault is told."""

from __future__ import annotations

import pytest

from pilotis.contract.presets import default
from pilotis.derive.plan import derive
from pilotis.derive.variant import variant
from pilotis.errors import ContractError, Invalid


def test_nothing_changed_is_the_same_contract() -> None:
    assert variant(default(), "dev", []) == default()


def test_settings_of_the_env_and_of_perf() -> None:
    changes = [
        "top_k=7",
        "flags=hybrid,rerank",
        "llm=gpt-5-mini",
        'reranker={model = "r", base_url = "http://h/v1"}',
        "tok_in_max=900",
    ]
    plan = derive(variant(default(), "dev", changes))
    env = plan.env("dev")
    assert (env.top_k, env.hybrid, env.rerank, env.llm.model, env.tok_in_max) == (7, True, True, "gpt-5-mini", 900)
    assert env.reranker is not None
    assert env.reranker.base_url == "http://h/v1"
    assert plan.digest != derive(default()).digest
    assert plan.env("prod").top_k == derive(default()).env("prod").top_k


def test_flags_may_be_none() -> None:
    assert not derive(variant(default(), "prod", ["flags="])).env("prod").hybrid


@pytest.mark.parametrize("change", ["embedder=x", "topk=3", "top_k", "=", "envs.dev.top_k=3"])
def test_what_may_not_be_changed(change: str) -> None:
    with pytest.raises(Invalid, match="is none of flags=…, llm=…"):
        variant(default(), "dev", [change])


@pytest.mark.parametrize(
    ("change", "told"), [("top_k=0", "at least 1"), ("top_k=many", "whole number"), ("flags=hybrd", "hybrid")]
)
def test_values_that_no_contract_may_have(change: str, told: str) -> None:
    with pytest.raises(ContractError, match="--set") as caught:
        variant(default(), "dev", [change])
    assert told in caught.value.message + caught.value.remedy
