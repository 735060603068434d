"""What a request may cost, what happens where it costs more, and at which prices."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from pilotis.contract.fields import Amount, Count, Day, Euros, Limit, ModelName, Record, listed, number

Step = Literal["no_rerank", "smaller_top_k", "compact_model", "cache_only", "refuse"]
"""A step of the guardrail's ladder."""


class Fx(Record):
    """`[costs.fx]`: the exchange rate at which prices in dollars become euros."""

    usd_per_eur: Annotated[Decimal, *number(gt=Decimal(0), le=Decimal(1000), places=9)] = Field(
        description="Dollars for one euro."
    )
    date: Day = Field(description="Day of the rate.")
    source: Annotated[str, Field(min_length=1, max_length=200)] = Field(default="contract", description="Who published it.")


class ModelPrice(Record):
    """`[costs.prices."MODEL"]`: a price that overrides the price book, or that it lacks."""

    currency: Literal["EUR", "USD"] = Field(default="EUR", description="Currency of this price.")
    input_per_mtok: Euros | None = Field(default=None, description="A million input tokens.")
    cached_input_per_mtok: Euros | None = Field(
        default=None, description="A million cached input tokens; as input when left out."
    )
    output_per_mtok: Euros | None = Field(default=None, description="A million output tokens.")
    per_1k_calls: Euros | None = Field(
        default=None, description="A thousand calls. Alone it is the whole price, as rerankers have it; else it is added."
    )

    valid_from: Day | None = Field(
        default=None, description="First day of this price, in UTC; the days before have the entry before, or the list price."
    )
    source: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Where the price comes from, such as an offer or a page."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.input_per_mtok is None and self.output_per_mtok is None and self.per_1k_calls is None:
            raise ValueError("names no price", "Write input_per_mtok and output_per_mtok, or per_1k_calls; 0 is a price.")
        return self


def _in_order(entries: tuple[ModelPrice, ...]) -> tuple[ModelPrice, ...]:
    days = [entry.valid_from for entry in entries]
    if not days:
        raise ValueError("names no price", "Write an entry, or leave the model out.")
    if None in days[1:] or any(a is not None and b is not None and a >= b for a, b in pairwise(days)):
        raise ValueError(
            "has entries out of order", "Write the oldest first, each with a later valid_from; only the first may have none."
        )
    return entries


def _one_or_more(value: Any) -> str:
    return "[entries]" if isinstance(value, list | tuple) else "[entry]"


Prices = Annotated[
    Annotated[ModelPrice, Tag("[entry]")]
    | Annotated[tuple[ModelPrice, ...], BeforeValidator(listed), AfterValidator(_in_order), Tag("[entries]")],
    Discriminator(_one_or_more),
]
"""One price, or several with the day from which each is valid."""


def _ladder(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    if twice := next((step for step in steps if steps.count(step) > 1), None):
        raise ValueError(f"names {twice} twice", "Name each step once.")
    last = [step for step in steps if step in {"cache_only", "refuse"}]
    if last and (last != sorted(last) or steps[-len(last) :] != tuple(last)):
        raise ValueError("goes on after a step at which no model is asked", "Write cache_only and refuse last, in this order.")
    return steps


class Estimate(Record):
    """`[costs.estimate]`: the assumptions of the contract estimate. Defaults: the specification's example table."""

    tok_in: Annotated[int, Field(ge=0, le=2_000_000)] = Field(default=900, description="Input tokens of a usual request.")
    tok_out: Annotated[int, Field(ge=0, le=1_000_000)] = Field(default=250, description="Output tokens of a usual request.")
    embed_eur_per_passage: Euros = Field(default=Decimal("0.0001"), description="Embedding one passage.")
    rerank_eur_per_passage: Euros = Field(default=Decimal("0.00005"), description="Reranking one passage.")
    llm_eur_per_token: Euros = Field(default=Decimal("0.00001"), description="One token, in or out.")
    infra_eur_per_1k: Euros = Field(default=Decimal("2.00"), description="Compute, storage and traffic of a thousand requests.")


class Costs(Record):
    """`[costs]`: what a request may cost, and at which prices."""

    currency: Literal["EUR"] = Field(default="EUR", description="Currency of every amount.")
    target_eur_per_1k: Amount | None = Field(default=None, description="A thousand requests shall cost no more.")
    guardrail_eur_per_req: Amount | None = Field(default=None, description="No request may cost more.")
    guardrail_window_s: Annotated[int, Field(ge=60, le=2_678_400)] = Field(
        default=3600, description="Time over which the guardrail is measured."
    )
    guardrail_min_sample: Count = Field(
        default=50, description="Paid answers within that time, below which the guardrail says nothing."
    )
    ladder: Annotated[tuple[Step, ...], BeforeValidator(listed), AfterValidator(_ladder)] = Field(
        default=("no_rerank", "smaller_top_k", "compact_model", "cache_only", "refuse"),
        description="What the guardrail does, step by step, while requests cost too much; cache_only and refuse come last.",
    )
    month_eur: Limit | None = Field(
        default=None, description="Budget of a calendar month, of each env that states none of its own."
    )
    on_unknown_price: Literal["block", "dearest", "serve"] = Field(
        default="dearest",
        description="A model without a price: refused, booked at its provider's dearest price, or served at 0 and counted.",
    )
    on_meter_down: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="What could cost something while Redis is away: refused, or served without budgets and booked afterwards.",
    )
    fx: Fx | None = Field(default=None, description="Exchange rate; the built-in one when left out.")
    estimate: Estimate = Field(default_factory=Estimate, description="Assumptions of the contract estimate.")
    prices: Mapping[ModelName, Prices] = Field(
        default_factory=dict, description="Prices by model, over those of the price book."
    )
