"""How good the answers are: what was asked to find out, how each question was judged, and what people said of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol

from pilotis.ports.content import Hit

EvaluationState = Literal["waiting", "running", "done", "failed"]
Vote = Literal["up", "down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for one question, as far as it is judged."""

    id: str
    text: str
    found: bool
    """False where it says that the documents do not answer."""
    language: str
    ranked: tuple[Hit, ...]
    """Everything that search found, best first, reranked where the env reranks; the writer may have read less."""
    cited: tuple[str, ...]
    """Ids of the passages it cites, each once."""
    latency_ms: float
    cost_eur: Decimal
    model: str
    step: str
    """Which step of the guardrail's ladder served it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A passage that was ranked for a question, without its text."""

    document: str
    passage_id: str
    page: int | None
    expected: bool
    cited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One golden question, what came back, and its figures."""

    id: str
    question: str
    tags: tuple[str, ...]
    metrics: Mapping[str, float]
    """By name, those that the golden set allows to compute, 0 to 1. A question that failed has them too, all 0."""
    answer: str
    found: bool
    language: str
    seen: tuple[Seen, ...]
    """The first of those ranked."""
    latency_ms: float | None
    """None where it failed."""
    cost_eur: Decimal
    model: str
    step: str
    wanted: tuple[str, ...] = ()
    """What was expected, in words."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One run of a golden set."""

    id: str
    env: str
    bu: str
    at: datetime
    state: EvaluationState
    golden: str
    """The name of the set."""
    digest: str
    """Of the set's questions: two runs with one digest answered the same ones."""
    questions: int
    config: Mapping[str, Any]
    """What answered: models, flags, top_k, prompt, token caps, index generation, the contract's digest."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """See `batch.figures`; empty until it is done."""
    error: str | None = None
    is_baseline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A passage as a question may be made from it."""

    passage_id: str
    document: str
    collection: str
    title: str | None
    headings: tuple[str, ...]
    language: str
    text: str


class Evaluations(Protocol):
    """Runs of golden sets, kept with every question; those of one env."""

    async def add(self, evaluation: Evaluation, *, order: Mapping[str, Any] | None = None) -> None:
        """Store a run that waits or is under way. `order` is what a worker needs to carry it out."""
        ...

    async def finish(self, evaluation: Evaluation, rows: Sequence[Judged]) -> None:
        """Store how it ended with its questions, in one transaction. Twice is once: a run that ended stays as it is."""
        ...

    async def get(self, run: str) -> Evaluation:
        """By its id or the beginning of it. Raises NotFound; Invalid where several begin so."""
        ...

    async def rows(self, run: str) -> Sequence[Judged]:
        """Its questions, in the order of the golden set."""
        ...

    async def list(self, *, bu: str | None = None, golden: str | None = None, limit: int = 50) -> Sequence[Evaluation]:
        """Latest first."""
        ...

    async def latest(self, *, bu: str, golden: str, before: datetime | None = None) -> Evaluation | None:
        """The last run of this set that was done."""
        ...

    async def baseline(self, *, bu: str, golden: str) -> Evaluation | None:
        """What runs of this set are compared with."""
        ...

    async def set_baseline(self, run: str) -> Evaluation:
        """From now on the others of its set are compared with this run. Raises NotFound; Invalid for a run that is not done."""
        ...

    async def claim(self, *, lease_s: float) -> tuple[Evaluation, Mapping[str, Any]] | None:
        """Take the oldest run that waits, or whose worker went away, with its order; None where there is none."""
        ...

    async def renew(self, run: str, *, lease_s: float) -> None: ...

    async def excerpts(self, bu: str, *, collection: str | None = None, limit: int, seed: int = 0) -> Sequence[Excerpt]:
        """Passages of many documents: one of each before a second of any. The same seed, the same passages."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What somebody said of an answer. `question` is what they sent along; the service does not keep questions by itself."""

    answer_id: str
    bu: str
    key: str
    """The API key it came with: each has one vote an answer."""
    at: datetime
    vote: Vote
    comment: str | None = None
    passage_id: str | None = None
    """The passage that would have been right."""
    document: str | None = None
    """The name of its document, as it was then."""
    question: str | None = None
    excerpt: str | None = None
    """The text of that passage, where it is still there."""


class Feedback(Protocol):
    """Votes on answers, of one env."""

    async def put(self, opinion: Opinion) -> Opinion:
        """Store a vote, in the place of an earlier one by the same key.

        Raises NotFound where the business unit has no such answer in the ledger, Invalid where it has no such passage.
        """
        ...

    async def list(
        self, *, bu: str | None = None, vote: Vote | None = None, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Opinion]:
        """Latest first."""
        ...

    async def counts(self, *, bu: str | None = None, since: datetime | None = None) -> Mapping[tuple[str, Vote], int]:
        """How many votes, by business unit and vote."""
        ...

    async def delete(self, bu: str, answer_id: str) -> int:
        """Forget what was said of an answer; return how many votes went."""
        ...
