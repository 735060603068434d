"""The guardrail's ladder: the same env, cheaper at each step, until nothing is paid for any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pilotis.derive.plan import Env

STEPS = ("no_rerank", "smaller_top_k", "compact_model", "cache_only", "refuse")
"""The steps a contract may name, in the usual order. Those before `cache_only` add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of the ladder."""

    step: str
    """`full` for the first, then those of the contract that change something."""
    env: Env
    """The env as it is at this step."""
    serves: Literal["all", "cache", "nothing"] = "all"


@lru_cache(maxsize=64)
def rungs(env: Env) -> tuple[Rung, ...]:
    """The ladder of an env, the full service first. A step that would change nothing, such as `no_rerank` without a reranker, is left out."""
    found = [Rung(step="full", env=env)]
    for step in env.ladder:
        before = found[-1].env
        match step:
            case "no_rerank" if before.rerank:
                found.append(Rung(step=step, env=replace(before, rerank=False)))
            case "smaller_top_k" if before.top_k > before.compact_top_k:
                found.append(Rung(step=step, env=replace(before, top_k=before.compact_top_k)))
            case "compact_model" if before.compact and before.compact != before.llm:
                found.append(Rung(step=step, env=replace(before, llm=before.compact)))
            case "cache_only":
                found.append(Rung(step=step, env=before, serves="cache"))
            case "refuse":
                found.append(Rung(step=step, env=before, serves="nothing"))
    return tuple(found)
