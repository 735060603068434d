"""Whether a contract is possible, affordable and complete: findings, each with its figures. No finding is an error: it holds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.cost import Quote, at_list_price, estimate_env

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from pilotis.derive.plan import Embedding, Env, Llm, Plan

MAX_FX_AGE = dt.timedelta(days=92)
"""An exchange rate older than a quarter is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know about a contract. An `error` makes it refused; a `warning` does not."""

    severity: Literal["error", "warning"]
    code: str
    env: str | None
    message: str
    remedy: str
    figures: Mapping[str, Decimal | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """The four figures of an env, each with its parts: a usual request and the worst one allowed, as agreed and at list prices."""

    usual: Quote
    worst: Quote
    usual_listed: Quote
    worst_listed: Quote


def estimates(env: Env, plan: Plan) -> Estimates:
    usual, worst = estimate_env(env, plan), estimate_env(env, plan, at_caps=True)
    return Estimates(
        usual=usual, worst=worst, usual_listed=at_list_price(usual, env, plan), worst_listed=at_list_price(worst, env, plan)
    )


def check(plan: Plan, today: dt.date) -> tuple[Finding, ...]:
    """Every finding, errors first."""
    found = [*_missing(plan), *_not_built(plan), *_silent(plan), *_rate(plan, today)]
    for env in plan.envs.values():
        found += [*_money(env, plan), *_prices(env, plan), *_reranker(env)]
    return tuple(sorted(found, key=lambda finding: finding.severity))


def above(amount: Decimal, limit: Decimal, places: int) -> tuple[str, str]:
    """Both as text, with as many decimals more as it takes to tell them apart."""
    while places < 12 and amount != limit and f"{amount:.{places}f}" == f"{limit:.{places}f}":
        places += 2
    return f"{amount:.{places}f} €", f"{limit:.{places}f} €"


def _money(env: Env, plan: Plan) -> Iterator[Finding]:
    costs = estimates(env, plan)
    listed = _list_price(env, plan)
    lower = f"Lower {env.name}.top_k, perf.tok_in_max or perf.tok_out_max, take a cheaper model, or agree on a higher figure."
    for code, quote, basis in (("estimate", costs.usual, ""), ("list_price", costs.usual_listed, listed)):
        total, target = quote.total_eur_per_1k, env.target_eur_per_1k
        if total is not None and target is not None and total > target and (listed or code == "estimate"):
            shown, bound = above(total, target, 2)
            yield Finding(
                severity="error",
                code=f"{code}_above_target",
                env=env.name,
                message=f"{env.name}: {basis}{parts(quote)} = {shown}/1k > target {bound}/1k",
                remedy=lower,
                figures={"total_eur_per_1k": total, "target_eur_per_1k": target},
            )
    for code, quote, basis in (
        ("estimate", costs.usual, "usual request"),
        ("worst_request", costs.worst, "worst allowed request"),
        ("list_price_worst_request", costs.worst_listed, "worst allowed request at list price" if listed else ""),
    ):
        one, limit = quote.eur_per_req, env.guardrail_eur_per_req
        if basis and one is not None and limit is not None and one > limit:
            shown, bound = above(one, limit, 4)
            yield Finding(
                severity="error",
                code=f"{code}_above_guardrail",
                env=env.name,
                message=(
                    f"{env.name}: {basis} ({quote.passages} passages, {quote.tok_in} tokens in, {quote.tok_out} out) costs "
                    f"{shown} > guardrail {bound}"
                ),
                remedy=lower,
                figures={"eur_per_req": one, "guardrail_eur_per_req": limit, "tok_in": quote.tok_in, "tok_out": quote.tok_out},
            )


def parts(quote: Quote) -> str:
    """The sum as the specification writes it: embeddings + reranker + LLM + infrastructure."""
    amounts = (quote.embedding_eur_per_1k, quote.reranker_eur_per_1k, quote.llm_eur_per_1k, quote.infra_eur_per_1k)
    return " + ".join("unknown" if amount is None else f"{amount:.2f}" for amount in amounts)


def _list_price(env: Env, plan: Plan) -> str:
    price = plan.book.find(env.llm.provider, env.llm.model)
    if env.llm.model == EXTRACTIVE or price is None or price.input is None or price.output is None:
        return ""
    return (
        f"{env.llm.model} at its list price of {price.input:f} in / {price.output:f} out {price.currency} per million tokens: "
    )


def _prices(env: Env, plan: Plan) -> Iterator[Finding]:
    used: list[tuple[str, Llm | Embedding]] = [("llm", env.llm), ("embedder", env.embedder)]
    if env.rerank and env.reranker is not None:
        used.append(("reranker", env.reranker))
    for role, model in used:
        if model.model == EXTRACTIVE or plan.book.find(model.provider, model.model) is not None:
            continue
        near = plan.book.nearest(model.model)
        guess = f"Did you mean {near}? If not, a" if near and near != model.model else "A"
        yield Finding(
            severity="error",
            code="unknown_price",
            env=env.name,
            message=f"{env.name}: no price is known for {role} {model.model} at {model.provider} (book: {plan.book.id})",
            remedy=f'{guess}dd [costs.prices."{model.model}"] with its price; 0 is a price, for a server of your own.',
        )


def _reranker(env: Env) -> Iterator[Finding]:
    if env.rerank and env.reranker is None:
        yield Finding(
            severity="warning",
            code="reranker_unnamed",
            env=env.name,
            message=f"{env.name}: the flag rerank is on and no reranker is named; the estimate books one all the same",
            remedy=f'Name one, reranker = "rerank-v3.5" in [envs.{env.name}], or take rerank out of its flags.',
        )
    if not env.rerank and env.reranker is not None:
        yield Finding(
            severity="warning",
            code="reranker_off",
            env=env.name,
            message=f"{env.name}: reranker {env.reranker.model} is named and the flag rerank is off",
            remedy=f"Add rerank to the flags of [envs.{env.name}] to use it.",
        )


def _missing(plan: Plan) -> Iterator[Finding]:
    costs, slo = plan.contract.costs, plan.contract.slo
    for key, value, why, severity in (
        ("costs.target_eur_per_1k", costs.target_eur_per_1k, "no estimate can be held against it", "error"),
        ("costs.guardrail_eur_per_req", costs.guardrail_eur_per_req, "no request can be held against it", "error"),
        ("costs.month_eur", costs.month_eur, "no budget bounds the month", "warning"),
        ("slo.p95_ms", slo.p95_ms, "a slow release is not noticed", "warning"),
        ("slo.hit_at_5", slo.hit_at_5, "a release that finds worse passages is not noticed", "warning"),
    ):
        if value is None:
            table, _, name = key.partition(".")
            yield Finding(
                severity="error" if severity == "error" else "warning",
                code="missing_figure",
                env=None,
                message=f"{key} is not given: {why}",
                remedy=f"Write {name} in [{table}].",
            )


def _not_built(plan: Plan) -> Iterator[Finding]:
    infra = plan.contract.infra
    for key, value, built in (
        ("api", infra.api, "fastapi"),
        ("vector", infra.vector, "pgvector"),
        ("blobs", infra.blobs, "local"),
    ):
        if value != built:
            yield Finding(
                severity="error",
                code="not_built",
                env=None,
                message=f"infra.{key} = {value}: this version serves with {built} only",
                remedy=f'Write {key} = "{built}" in [infra].',
            )


def _silent(plan: Plan) -> Iterator[Finding]:
    """Objectives that no measurement can ever breach."""
    slo, total_s = plan.contract.slo, plan.contract.perf.total_s
    for key, value, never, why in (
        (
            "p95_ms",
            slo.p95_ms,
            slo.p95_ms is not None and slo.p95_ms >= total_s * 1000,
            f"answers are cut at perf.total_s = {total_s} s",
        ),
        ("error_rate", slo.error_rate, slo.error_rate >= 1, "no more than all requests can fail"),
        ("hit_at_5", slo.hit_at_5, slo.hit_at_5 == 0, "no score is below 0"),
        ("cpu", slo.cpu, slo.cpu >= 1, "use does not exceed 1"),
        ("ram", slo.ram, slo.ram >= 1, "use does not exceed 1"),
    ):
        if never:
            yield Finding(
                severity="error",
                code="slo_never_fires",
                env=None,
                message=f"slo.{key} = {value} can never be breached: {why}",
                remedy=f"{'Raise' if key == 'hit_at_5' else 'Lower'} {key} in [slo].",
            )


def _rate(plan: Plan, today: dt.date) -> Iterator[Finding]:
    age = today - plan.fx.date
    used = [plan.book.find(model.provider, model.model) for env in plan.envs.values() for model in (env.llm, env.embedder)]
    if age <= MAX_FX_AGE or not any(price and price.currency == "USD" for price in used):
        return
    yield Finding(
        severity="warning",
        code="fx_old",
        env=None,
        message=f"dollars become euros at {plan.fx.usd_per_eur} USD/EUR of {plan.fx.date} ({plan.fx.source}), {age.days} days old",
        remedy="Write a recent rate: [costs.fx] usd_per_eur, date and source.",
        figures={"age_days": age.days},
    )
