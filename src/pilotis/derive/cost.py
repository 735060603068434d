"""What a request costs: usage times dated prices, in exact euros. Meter, estimate and budget sheet share this arithmetic.

Three figures, never mixed:
- `price`      what a model call that happened costs, at the price of its model: this is what the ledger holds.
- `elsewhere`  what a request that happened would have cost in the other envs, at the prices of their models.
- `estimate`   what the contract assumes a thousand requests cost, with its own unit prices, infrastructure included.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import TYPE_CHECKING

from pilotis.contract.model import EXTRACTIVE, Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotis.derive.plan import Env, Plan
    from pilotis.derive.prices import Fx, PriceBook

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


def price(usage: Usage, book: PriceBook, fx: Fx) -> Priced:
    """The cost of one model call at the price of its model.

    Counts that contradict each other, as some servers report them, are read so that nothing is booked below zero: negative ones
    as 0, more cached than input tokens as all cached.
    """
    found = book.find(usage.provider, usage.model)
    if found is None:
        return Priced(cost_eur=_ZERO.quantize(QUANTUM), priced=False, price_book=book.id, fx=None)
    read, written = max(0, usage.input_tokens), max(0, usage.output_tokens)
    cached = min(max(0, usage.cached_tokens), read)
    rate = found.at(read)
    parts = (
        (read - cached, rate.input),
        (cached, rate.cached if rate.cached is not None else rate.input),
        (written, rate.output),
    )
    with localcontext(_EXACT):
        amount = sum((tokens * unit / _MILLION for tokens, unit in parts if unit is not None), _ZERO)
        amount += rate.per_1k_calls / _THOUSAND
        if rate.currency == "USD":
            amount /= fx.usd_per_eur
        return Priced(
            cost_eur=amount.quantize(QUANTUM),
            priced=all(unit is not None or not tokens for tokens, unit in parts),
            price_book=book.id,
            fx=fx.record() if rate.currency == "USD" else None,
        )


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


def elsewhere(work: Work, here: str, plan: Plan) -> dict[str, Decimal | None]:
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
            costs[name] = _in(env, work, passages, plan)
    return costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A contract estimate: euros for a thousand requests, part by part, before any rounding."""

    passages: int
    tok_in: int
    tok_out: int
    embedding_eur_per_1k: Decimal
    reranker_eur_per_1k: Decimal
    llm_eur_per_1k: Decimal | None
    """None where the price of the LLM is unknown."""
    infra_eur_per_1k: Decimal

    @property
    def total_eur_per_1k(self) -> Decimal | None:
        if self.llm_eur_per_1k is None:
            return None
        return self.embedding_eur_per_1k + self.reranker_eur_per_1k + self.llm_eur_per_1k + self.infra_eur_per_1k

    @property
    def eur_per_req(self) -> Decimal | None:
        total = self.total_eur_per_1k
        return None if total is None else total / _THOUSAND


def estimate(
    units: Estimate, *, passages: int, rerank: bool, llm: bool = True, tok_in: int | None = None, tok_out: int | None = None
) -> Quote:
    """The specification's formula for a thousand requests, in typed units.

    C_emb = passages x EUR per passage; C_rerank = passages x EUR per passage, if reranked; C_gen = (tokens in + out) x EUR per token,
    if an LLM writes; C_infra is given per thousand. It books the passages' embedding at every request, as the specification
    does, where the meter books it once, at ingestion: an upper bound, kept because the contract was agreed on it.
    """
    read = units.tok_in if tok_in is None else tok_in
    written = units.tok_out if tok_out is None else tok_out
    return Quote(
        passages=passages,
        tok_in=read,
        tok_out=written,
        embedding_eur_per_1k=passages * units.embed_eur_per_passage * _THOUSAND,
        reranker_eur_per_1k=passages * units.rerank_eur_per_passage * _THOUSAND if rerank else _ZERO,
        llm_eur_per_1k=(read + written) * units.llm_eur_per_token * _THOUSAND if llm else _ZERO,
        infra_eur_per_1k=units.infra_eur_per_1k,
    )


def estimate_env(env: Env, plan: Plan, *, at_caps: bool = False) -> Quote:
    """The contract estimate of one env: its `top_k`, its reranker, its LLM; `at_caps` for the worst request that it allows."""
    return estimate(
        plan.contract.costs.estimate,
        passages=env.top_k,
        rerank=env.rerank,
        llm=env.llm.model != EXTRACTIVE,
        tok_in=env.tok_in_max if at_caps else None,
        tok_out=env.tok_out_max if at_caps else None,
    )


def at_list_price(quote: Quote, env: Env, plan: Plan) -> Quote:
    """The same estimate with the LLM's tokens at the price of its model, instead of the contract's flat price per token."""
    usage = Usage(model=env.llm.model, provider=env.llm.provider, input_tokens=quote.tok_in, output_tokens=quote.tok_out)
    one = price(usage, plan.book, plan.fx)
    return Quote(
        passages=quote.passages,
        tok_in=quote.tok_in,
        tok_out=quote.tok_out,
        embedding_eur_per_1k=quote.embedding_eur_per_1k,
        reranker_eur_per_1k=quote.reranker_eur_per_1k,
        llm_eur_per_1k=one.cost_eur * _THOUSAND if one.priced else None,
        infra_eur_per_1k=quote.infra_eur_per_1k,
    )


def _in(env: Env, work: Work, passages: int, plan: Plan) -> Decimal | None:
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
    costs = [price(call, plan.book, plan.fx) for call in calls]
    if not all(cost.priced for cost in costs):
        return None
    return sum((cost.cost_eur for cost in costs), agreed).quantize(QUANTUM)
