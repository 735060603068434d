"""What the runbook says of a contract: its figures, worked out once for the pages of both languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.budget import MICRO, WINDOWS, Budget
from pilotis.derive.cost import ceiling
from pilotis.derive.estimate import at_list_price, estimate_env
from pilotis.derive.ladder import rungs
from pilotis.derive.plan import Env, Plan
from pilotis.derive.site import Site
from pilotis.derive.sizing import MATRIX, Size
from pilotis.derive.workload import Role, roles, secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the guardrail's ladder, and what a thousand usual requests cost there at list prices, infrastructure included."""

    number: int
    name: str
    serves: str
    eur_per_1k: Decimal | None
    """None where a price is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """One budget: whose, in which window, how much. `scope` is as the metrics have it; `*` stands for each that has none of its own."""

    scope: str
    window: str
    eur: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The main env's figures."""

    site: Site
    roles: Mapping[str, Role]
    workers: tuple[Role, ...]
    steps: tuple[Step, ...]
    limits: tuple[LimitRow, ...]
    secrets: tuple[str, ...]
    ceiling_eur: Decimal
    """What budgets hold for one answer until it is settled."""
    writes: bool
    """Whether a language model writes the answers."""
    remote: tuple[str, ...]
    """The models that are asked over the network."""
    connections: int
    """Of the database, when every process has opened all it may."""
    matrix: tuple[Size, ...] = MATRIX

    @property
    def step_names(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.steps)

    @property
    def dwell_s(self) -> int:
        """How long a step of the guardrail lasts at least before the next one down."""
        return self.site.env.guardrail_window_s // 6


def facts(site: Site, plan: Plan) -> Facts:
    env = site.env
    found = roles(site)
    models = (env.llm, env.compact, env.fallback, env.embedder, env.reranker if env.rerank else None)
    return Facts(
        site=site,
        roles={role.name: role for role in found},
        workers=tuple(role for role in found if role.queue),
        steps=tuple(_steps(env, plan)),
        limits=tuple(_limits(env)),
        secrets=secrets(env),
        ceiling_eur=ceiling(env, plan).micro / MICRO,
        writes=env.llm.model != EXTRACTIVE,
        remote=tuple(dict.fromkeys(model.model for model in models if model and model.provider != "local")),
        connections=sum((role.most or role.replicas) for role in found) * env.pool_max,
    )


def half_more(count: int) -> int:
    """The next size up, when nobody knows yet what is needed: half as many again."""
    return ceil(count * 1.5)


def _steps(env: Env, plan: Plan) -> Iterator[Step]:
    for number, rung in enumerate(rungs(env)):
        quote = at_list_price(estimate_env(rung.env, plan), rung.env, plan)
        cost = quote.total_eur_per_1k if rung.serves == "all" else quote.infra_eur_per_1k
        yield Step(number=number, name=rung.step, serves=rung.serves, eur_per_1k=cost)


def _limits(env: Env) -> Iterator[LimitRow]:
    budgets = env.budgets
    scopes: list[tuple[str, Budget]] = [("env", budgets.env)]
    scopes += [(f"plane:{name}", budget) for name, budget in sorted(budgets.planes.items())]
    scopes += [(f"bu:{name}", budget) for name, budget in sorted(budgets.bus.items())]
    scopes += [("bu:*", budgets.bu), ("key:*", budgets.key)]
    for scope, budget in scopes:
        for window in WINDOWS:
            if (limit := budget.limit(window)) is not None:
                yield LimitRow(scope=scope, window=window, eur=limit)
