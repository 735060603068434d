"""Whether a contract is possible, affordable and complete: findings, each with its figures. No finding is an error: it holds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.bounds import bounds, online
from pilotis.derive.budget import NO_LIMIT
from pilotis.derive.cost import Usage, is_covered
from pilotis.derive.estimate import Quote, at_list_price, estimate_env
from pilotis.derive.finding import SEVERITIES, Finding, above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilotis.derive.plan import Embedding, Env, Llm, Plan

MAX_FX_AGE = dt.timedelta(days=92)
"""An exchange rate older than a quarter is worth a warning."""


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
        found += [*_money(env, plan), *_prices(env, plan), *_reranker(env), *bounds(env, plan, today)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


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
    writers = {"llm": env.llm, "compact": env.compact, "fallback": env.fallback}
    used: dict[str, Llm | Embedding | None] = {
        **writers,
        "embedder": env.embedder,
        "reranker": env.reranker if env.rerank else None,
    }
    for role, model in used.items():
        if model is None or model.model == EXTRACTIVE:
            continue
        call = Usage(model=model.model, provider=model.provider, input_tokens=1, output_tokens=1 if role in writers else 0)
        if is_covered(call, plan, on_unknown="block"):
            continue
        agreed = "on_unknown_price" in plan.contract.costs.model_fields_set
        served = env.on_unknown_price == "serve" or is_covered(call, plan, on_unknown=env.on_unknown_price)
        half = plan.book.find(model.provider, model.model) is not None
        near = plan.book.nearest(model.model)
        guess = f"Did you mean {near}? If not, a" if near and near != model.model else "A"
        yield Finding(
            severity="warning" if agreed and served else "error",
            code="unknown_price",
            env=env.name,
            message=(
                f"{env.name}: {'half of the price only' if half else 'no price'} is known for {role} {model.model} at "
                f"{model.provider} (book: {plan.book.id}); {_consequence(call, env, plan)}"
            ),
            remedy=f'{guess}dd [costs.prices."{model.model}"] with its price; 0 is a price, for a server of your own.',
        )


def _consequence(call: Usage, env: Env, plan: Plan) -> str:
    """What an unknown price leads to, by the contract's policy."""
    if env.on_unknown_price == "serve":
        limited = any(budget != NO_LIMIT for _, budget in online(env))
        return "it is booked at 0" + (", which no budget can hold" if limited else " and counted")
    if is_covered(call, plan, on_unknown=env.on_unknown_price):
        return f"it is booked at the dearest price of {call.provider}"
    return "requests are refused"


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
