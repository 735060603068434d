"""What a request costs: usage times dated prices, in exact euros.

Figures that are never mixed:
- `price`      what a model call that happened costs, at the price of its model: this is what the ledger holds.
- `ceiling`    the most that a request can cost, before it is made: this is what budgets hold for it.
- `elsewhere`  what a request that happened would have cost in the other envs, at the prices of their models.
- `reprice`    what it would have cost with other models.
- `derive.estimate` has what the contract assumes a thousand requests cost, with its own unit prices, infrastructure included.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

from pilotis.contract.model import EXTRACTIVE, Endpoint
from pilotis.contract.presets import PROVIDERS
from pilotis.derive.budget import micro_up
from pilotis.derive.plan import Embedding, Env, Llm, Plan, reach
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilotis.derive.prices import Class, Fx, PriceBook

QUANTUM = Decimal("1e-12")
"""Euros are kept to twelve decimals: a millionth of a micro-euro, below the price of one token of any model."""

_EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN)
_MILLION, _THOUSAND, _ZERO = Decimal(1_000_000), Decimal(1000), Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one model call consumed, in tokens, as the OpenAI convention counts them.

    `input_tokens` includes `cached_tokens`; `output_tokens` includes `reasoning_tokens`. `estimated` is true where the server
    reported nothing and the tokens were counted here.
    """

    model: str
    provider: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """The cost of one call, with all that is needed to compute it again."""

    cost_eur: Decimal
    """Rounded once, to twelve decimals, half to even."""
    priced: bool
    """False where a price is unknown: `cost_eur` is then the part that could be priced, never a silent 0."""
    price_book: str
    fx: Mapping[str, str] | None
    """The exchange rate, None where the price was in euros."""


OnUnknown = Literal["block", "dearest", "serve"]
"""What stands in for a price that is unknown: nothing, or the dearest known price of the same provider, class by class."""


def price(usage: Usage, book: PriceBook, fx: Fx, *, at: dt.date | None = None, on_unknown: OnUnknown = "serve") -> Priced:
    """The cost of one model call at the price of its model on the day `at` (in UTC), or at the last one known.

    Where no price is known the call stays unpriced; with `dearest` it is then booked at the dearest price of its provider.

    Counts that contradict each other, as some servers report them, are read so that nothing is booked below zero: negative ones
    as 0, more cached than input tokens as all cached.
    """
    own = book.find(usage.provider, usage.model, at)
    rates = [own] if own is not None else []
    if on_unknown == "dearest" and (own is None or not own.is_complete) and (other := book.dearest(usage.provider, fx, at)):
        rates.append(other)
    read, written = max(0, usage.input_tokens), max(0, usage.output_tokens)
    cached = min(max(0, usage.cached_tokens), read)
    rates = [rate.at(read) for rate in rates]
    parts: tuple[tuple[int, Class], ...] = ((read - cached, "input"), (cached, "cached"), (written, "output"))
    owed = {"EUR": _ZERO, "USD": _ZERO}
    with localcontext(_EXACT):
        for tokens, name in parts:
            rate = next((rate for rate in rates if rate.unit(name) is not None), None)
            if rate is not None:
                owed[rate.currency] += tokens * (rate.unit(name) or _ZERO) / _MILLION
        for rate in rates[:1]:
            owed[rate.currency] += rate.per_1k_calls / _THOUSAND
        return Priced(
            cost_eur=(owed["EUR"] + owed["USD"] / fx.usd_per_eur).quantize(QUANTUM),
            priced=own is not None and all(own.at(read).unit(name) is not None for tokens, name in parts if tokens),
            price_book=book.id,
            fx=fx.record() if any(rate.currency == "USD" for rate in rates) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most one request can cost."""

    micro: int
    """Micro-euros, rounded up."""
    priced: bool
    """False where the price of a model is unknown, and nothing stands in for it."""


Kind = Literal["answer", "search"]

LONGEST_PASSAGE_TOKENS = 512
"""No passage has more, unless the contract makes them longer: it then has at most twice what the contract says."""

LONGEST_QUESTION_TOKENS = 4_000
"""A question has at most so many characters (`rag.question`), and a token has at least one."""


def ceiling(env: Env, plan: Plan, *, kind: Kind = "answer", at: dt.date | None = None) -> Ceiling:
    """The most one request of `env` can cost under its caps: every call as long as it may be, each at its dearest.

    Of dated prices the dearest counts that is in force on the day `at` or later. Where a fallback may write, the first model may
    have read and thought for nothing before: both are counted. Reasoning is part of the output's cap and adds nothing.
    """
    with localcontext(_EXACT):
        most = sum((_most(call, env, plan, at) for call in _longest(env, kind)), _ZERO)
    return Ceiling(micro=micro_up(most), priced=not unpriced(env, plan, kind=kind))


def unpriced(env: Env, plan: Plan, *, kind: Kind = "answer") -> tuple[str, ...]:
    """The models a request of `env` may call, at any step of its ladder, whose price is unknown and has no stand-in.

    Such a request is to be refused. Empty where the contract says `on_unknown_price = "serve"`.
    """
    if env.on_unknown_price == "serve":
        return ()
    calls = _longest(env, kind)
    if env.compact is not None and "compact_model" in env.ladder:
        calls += _longest(replace(env, llm=env.compact), kind)
    models = [call.model for call in calls if not is_covered(call, plan, on_unknown=env.on_unknown_price)]
    return tuple(dict.fromkeys(models))


def is_covered(usage: Usage, plan: Plan, *, on_unknown: OnUnknown) -> bool:
    """Whether every token of a call has a price, be it that of a stand-in."""
    own = plan.book.find(usage.provider, usage.model)
    rates = [own] if own is not None else []
    if on_unknown == "dearest" and (other := plan.book.dearest(usage.provider, plan.fx)):
        rates.append(other)
    classes: tuple[tuple[Class, int], ...] = (("input", usage.input_tokens), ("output", usage.output_tokens))
    return all(not tokens or any(rate.unit(name) is not None for rate in rates) for name, tokens in classes)


def _longest(env: Env, kind: Kind) -> list[Usage]:
    """The model calls of one request, each as long as the caps allow."""
    question = LONGEST_QUESTION_TOKENS
    calls = [Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=question)]
    if kind == "search":
        return calls
    if env.rerank and env.reranker is not None:
        tokens = env.top_k * (question + max(LONGEST_PASSAGE_TOKENS, 2 * env.passage_tokens))
        calls.append(Usage(model=env.reranker.model, provider=env.reranker.provider, input_tokens=tokens))
    if env.llm.model != EXTRACTIVE:
        read, wrote = env.tok_in_max, env.tok_out_max
        writers = [env.llm] if env.fallback is None else [env.llm, env.fallback]
        calls += [Usage(model=one.model, provider=one.provider, input_tokens=read, output_tokens=wrote) for one in writers]
    return calls


def _most(call: Usage, env: Env, plan: Plan, since: dt.date | None) -> Decimal:
    """The dearest a call can become: shorter where a tier ends before it, cached or not, on any day to come."""
    most = _ZERO
    for day in plan.book.days(since):
        found = plan.book.find(call.provider, call.model, day)
        ends = [tier.above for tier in found.tiers if tier.above < call.input_tokens] if found else []
        for read in (*ends, call.input_tokens):
            for cached in (0, read):
                usage = replace(call, input_tokens=read, cached_tokens=cached)
                cost = price(usage, plan.book, plan.fx, at=day, on_unknown=env.on_unknown_price)
                most = max(most, cost.cost_eur)
    return most


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one request did, apart from who did it.

    `prompt_tokens` is what a writer reads (instructions, passages, question) and `answer_tokens` what it writes. Where the answer
    was extractive no LLM read or wrote: give the tokens of the prompt that an LLM would have been given, and of the answer that
    was shown, so that the comparison is between ways to give the same answer. `passages` is how many were retrieved.
    """

    question_tokens: int
    prompt_tokens: int
    answer_tokens: int
    passages: int


def elsewhere(work: Work, here: str, plan: Plan, *, at: dt.date | None = None) -> dict[str, Decimal | None]:
    """What the request would have cost in each env of the plan but `here`, in euros; None where a price is unknown there.

    As the ledger would have booked it: the question's embedding, the reranking of as many passages as that env retrieves (no
    more than were found, where the corpus had no more to give), the LLM's tokens; no infrastructure, no cache hit. The prompt keeps
    its length, because every env prunes it to the same `tok_in_max`. A reasoning model would write more than the tokens of
    the answer: for one the figure is a lower bound. Where an env reranks and its contract names no reranker, the contract's
    estimate per passage stands for it.
    """
    limit = plan.envs[here].top_k
    exhausted = work.passages < limit
    costs = {}
    for name, env in plan.envs.items():
        if name != here:
            passages = min(work.passages, env.top_k) if exhausted else env.top_k
            costs[name] = _in(env, work, passages, plan, at)
    return costs


Part = Literal["llm", "embedder", "reranker"]


def reprice(calls: Sequence[Mapping[str, Any]], plan: Plan, as_if: Mapping[str, str], *, at: dt.date | None = None) -> Priced:
    """What the calls of one ledger event would have cost with other models: `as_if` maps llm, embedder or reranker to a model.

    All calls are priced by the plan's book, those that keep their model too, on the day `at` or at the last known prices. Tokens stay
    as they were counted: another model's tokenizer would count somewhat differently, and write another answer. `provider/model`
    names the provider as well. An event without an LLM's call (extractive, or from the cache) stays without one.

    Raises Invalid for a part that there is not.
    """
    if unknown := next((part for part in as_if if part not in get_args(Part)), None):
        raise Invalid(f"{unknown!r} is no part of a request", remedy=f"name one of: {', '.join(get_args(Part))}")
    others = {part: _model(name, plan) for part, name in as_if.items()}
    usages = []
    for call in calls:
        usage = Usage(**{field.name: call[field.name] for field in fields(Usage) if field.name in call})
        other = others.get(part_of(usage, plan))
        usages.append(usage if other is None else replace(usage, model=other.model, provider=other.provider))
    lines = [price(usage, plan.book, plan.fx, at=at) for usage in usages]
    return Priced(
        cost_eur=sum((line.cost_eur for line in lines), _ZERO).quantize(QUANTUM),
        priced=all(line.priced for line in lines),
        price_book=plan.book.id,
        fx=next((line.fx for line in lines if line.fx), None),
    )


def part_of(usage: Usage, plan: Plan) -> Part:
    """Which part of a request a call was: what wrote is the LLM; else the contract's models tell, and else the price book.

    A call of a model that no env names any more, and that wrote nothing, is the LLM's where such a model can write: its output has a
    price. Else it is the embedder's.
    """
    if usage.output_tokens:
        return "llm"
    envs = plan.envs.values()
    if any(env.reranker is not None and env.reranker.model == usage.model for env in envs):
        return "reranker"
    if any(env.embedder.model == usage.model for env in envs):
        return "embedder"
    found = plan.book.find(usage.provider, usage.model)
    writes = usage.provider != "local" and found is not None and found.output
    return "llm" if writes or any(usage.model == env.llm.model for env in envs) else "embedder"


def _model(name: str, plan: Plan) -> Llm | Embedding:
    """A model as the contract reaches it, or by its usual provider."""
    for env in plan.envs.values():
        for known in (env.llm, env.compact, env.fallback, env.embedder, env.reranker):
            if known is not None and known.model == name:
                return known
    provider, _, model = name.partition("/")
    if model and provider in PROVIDERS:
        return reach(Endpoint(model=model, provider=provider))
    return reach(Endpoint(model=name))


def _in(env: Env, work: Work, passages: int, plan: Plan, at: dt.date | None) -> Decimal | None:
    calls = [Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=work.question_tokens)]
    agreed = _ZERO
    if env.rerank and env.reranker is None:
        agreed = passages * plan.contract.costs.estimate.rerank_eur_per_passage
    elif env.rerank and env.reranker is not None:
        tokens = passages * (work.question_tokens + env.passage_tokens)
        calls.append(Usage(model=env.reranker.model, provider=env.reranker.provider, input_tokens=tokens))
    if env.llm.model != EXTRACTIVE:
        calls.append(
            Usage(
                model=env.llm.model,
                provider=env.llm.provider,
                input_tokens=min(work.prompt_tokens, env.tok_in_max),
                output_tokens=min(work.answer_tokens, env.tok_out_max),
            )
        )
    costs = [price(call, plan.book, plan.fx, at=at) for call in calls]
    if not all(cost.priced for cost in costs):
        return None
    return sum((cost.cost_eur for cost in costs), agreed).quantize(QUANTUM)
