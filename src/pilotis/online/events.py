"""What a question brings forth: its passages, its text piece by piece, and the answer with what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from pilotis.derive.cost import Usage
from pilotis.ports import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """What `[n]` stands for. `quote` is the document's extracted text from `start` to `end`, in characters."""

    n: int
    passage_id: str
    document_id: str
    document: str
    title: str | None
    page: int | None
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A departure from the plain road: what was skipped or put right, and why."""

    name: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a request consumed and cost, as the ledger holds it."""

    usages: tuple[Usage, ...]
    """One per model call: the question's embedding, the reranking, the writing."""
    cost_eur: Decimal
    priced: bool
    """False where a price was unknown: `cost_eur` is then what the contract's policy makes of it."""
    price_book: str
    fx: Mapping[str, str] | None
    """The exchange rate, None where every price was in euros."""
    elsewhere_eur: Mapping[str, Decimal | None]
    """What the same request would have cost in each other env of the contract; None where a price is unknown there."""
    saved_eur: Decimal = Decimal(0)
    """What the answer had cost when it was written, where it came from the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, complete and paid for. Its `text` is authoritative: marks that point nowhere were streamed, but are not in it."""

    id: str
    """Its line in the ledger; an answer from the cache has the id it was written under."""
    text: str
    found: bool
    """False where the documents do not answer; the text then says so."""
    language: str
    citations: tuple[Citation, ...]
    receipt: Receipt
    timings_ms: Mapping[str, float]
    """By stage (admit, embed, search, rerank, extract or generate, settle), and `total`."""
    env: str
    model: str
    prompt: str | None
    """Version of the prompt, None where the answer is extractive."""
    step: str
    """Which step of the guardrail's ladder served it; `full` is the full service."""
    cache: Literal["hit", "miss", "off"]
    steps: tuple[Step, ...]
    """What was skipped or put right on the way, and why."""
    cut: bool = False
    """Whether the writer used every token it was allowed: whether it had more to say nobody knows."""


@dataclass(frozen=True, slots=True)
class Passages:
    """First event: what was found, in the order that `[n]` counts."""

    hits: tuple[Hit, ...]
    ranked: tuple[Hit, ...] = field(default=(), compare=False)
    """Everything that was ranked, of which `hits` are what the writer reads; none where the answer comes from the cache."""


@dataclass(frozen=True, slots=True)
class Token:
    """Then, many times: the next piece of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Last event. Whoever sees it knows that the cost is on its way to the ledger, and survives whatever dies now."""

    answer: Answer


Event = Passages | Token | Done
