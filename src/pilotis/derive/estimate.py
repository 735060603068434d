"""What the contract assumes a thousand requests cost, with its own unit prices, infrastructure included."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from pilotis.contract.costs import Estimate
from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.cost import Usage, price

if TYPE_CHECKING:
    from pilotis.derive.plan import Env, Plan

_THOUSAND, _ZERO = Decimal(1000), Decimal(0)


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
