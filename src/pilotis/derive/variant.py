"""A contract with some settings of one env changed, to see what the change is worth before it is written."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from pilotis.contract.faults import explain
from pilotis.contract.load import ContractFaults
from pilotis.contract.model import Contract
from pilotis.derive.budget import Rates
from pilotis.derive.plan import Env, Plan, derive
from pilotis.errors import Invalid

OF_ENV = ("flags", "llm", "top_k", "reranker", "compact", "compact_top_k", "fallback")
OF_PERF = ("tok_in_max", "tok_out_max", "first_byte_s", "total_s")
SETTINGS = (*OF_ENV, *OF_PERF)
"""What may be changed for a run. An embedder may not: an env has one index, and it belongs to that model."""


def variant(contract: Contract, env: str, changes: Sequence[str]) -> Contract:
    """The contract with each `KEY=VALUE` of `changes` in place of what its env, or [perf], says; validated as a file is.

    A value is written as in TOML; a text may go without quotes, and flags as a list with commas. Raises Invalid for another key,
    ContractError for a value that no contract may have.
    """
    if not changes:
        return contract
    whole: dict[str, Any] = contract.model_dump()
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in SETTINGS:
            raise Invalid(
                f"--set {change!r} is none of {', '.join(f'{one}=…' for one in SETTINGS)}",
                remedy="write it as --set top_k=5; what belongs to the index (embedder, passages) is compared between two envs",
                code="invalid_setting",
            )
        table = whole["envs"].setdefault(env, {}) if key in OF_ENV else whole["perf"]
        table[key] = _value(key, value)
    try:
        return Contract.model_validate(whole)
    except ValidationError as error:
        raise ContractFaults("--set", explain(error)) from None


def to_evaluate(plan: Plan, env: Env, changes: Sequence[str]) -> tuple[Plan, Env]:
    """What an evaluation runs on: the env with these changes, and without rate limits, which are for callers. Raises as `variant`."""
    if changes:
        plan = derive(variant(plan.contract, env.name, changes))
        env = plan.env(env.name)
    return plan, replace(env, rates=Rates())


def _value(key: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
    except tomllib.TOMLDecodeError:
        return [one for one in text.split(",") if one] if key == "flags" else text
