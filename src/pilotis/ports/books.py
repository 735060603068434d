"""The books: what was spent, on its way from a settled request to the ledger, and the sums that budgets are kept by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol

from pilotis.derive.budget import Span

Plane = Literal["online", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEvent:
    """One line of the ledger. `id` makes settling twice harmless."""

    id: str
    at: datetime
    """When it was admitted, by the clock of the budgets: this decides in which windows it counts."""
    env: str
    plane: Plane
    bu: str
    kind: Literal["answer", "search", "ingest", "eval"]
    subject: str
    """The answer or the document that was paid for."""
    model: str
    usage: Mapping[str, Any]
    cost_eur: Decimal
    price_book: str
    fx: Mapping[str, Any] | None
    priced: bool
    """False where no price was known: `cost_eur` is then the part that could be priced."""
    key: str | None = None
    """The API key it was asked with."""
    step: str = "full"
    """Which step of the guardrail's ladder served it."""
    estimated: bool = False
    """Whether some of the tokens were counted here because nobody reported them."""
    instance: str | None = None
    """The process that counted it in its metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a scope has spent in a window, in micro-euros; every event is rounded up by itself."""

    scope: str
    span: Span
    spent: int
    held: int = 0
    limit: int | None = None


class Outbox(Protocol):
    """Settled costs on their way to the ledger, and the counters that must agree with it."""

    async def lead(self, instance: str, *, ttl_s: float) -> bool:
        """Whether this process moves events now; the others watch."""
        ...

    async def read(self, *, limit: int) -> Sequence[tuple[str, CostEvent]]:
        """The oldest events that were not removed, with their places in the stream.

        One whose `usage` says `lost` stands for a hold whose process died: it is not in the counters, and the hold goes on until
        `count` or `free`, because the ledger may know what was really spent.
        """
        ...

    async def remove(self, upto: str) -> None:
        """Forget events up to this place: they are in the ledger."""
        ...

    async def waiting(self) -> int:
        """How many events are in the stream."""
        ...

    async def unconfirmed(self) -> Sequence[CostEvent]:
        """Events that this process settled and that are not known to be in the ledger: a lost stream must not lose them."""
        ...

    async def count(self, event: CostEvent, *, epoch: str) -> None:
        """Add an event that went to the ledger directly to the counters, and free its hold. Twice is once.

        Raises Transient where the counters were seeded anew since `epoch` was read: the ledger's sums may hold it already.
        """
        ...

    async def free(self, ids: Sequence[str]) -> int:
        """What is still held for these is not needed: their lines in the ledger are counted, or are summed next. Return how many were."""
        ...

    async def epoch(self) -> str | None:
        """Which `seed` the counters began with; None from the moment Redis was restarted or flushed until the next one.

        Nobody is admitted meanwhile. What is settled meanwhile either goes to the stream or raises Transient.
        """
        ...

    async def is_seeded(self) -> bool:
        """Whether there is an `epoch`."""
        ...

    async def rejoin(self) -> float:
        """Say again which holds this process has; return for how many seconds others may still have to.

        Whatever `unconfirmed` gave to the caller before is in the ledger by now.
        """
        ...

    async def seed(self, spent: Sequence[Spending], *, epoch: str, instance: str) -> bool:
        """Put the ledger's sums in the place of the counters and admit again, in one step.

        False, with nothing changed, where `instance` does not lead, where there is an epoch already, or where the stream holds
        events: these would be in neither, so they have to go to the ledger first.
        """
        ...

    async def unseed(self) -> None:
        """Forget the epoch, so that the counters are made again from the ledger. Nobody is admitted until `seed`."""
        ...

    async def spending(self, spans: Sequence[Span] | None = None) -> Sequence[Spending]:
        """What the counters say of the windows of now, or of `spans`: those scopes of which there is a counter."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a cost report: `key` are the values of what it is grouped by."""

    key: tuple[str, ...]
    requests: int
    cost_eur: Decimal
    input_tokens: int
    output_tokens: int
    unpriced: int
    estimated: int


class Ledger(Protocol):
    """The append-only record of every cost."""

    async def append(self, event: CostEvent) -> None:
        """Store one event that the counters may not know of: it is `uncounted`. Twice is once."""
        ...

    async def book(self, events: Sequence[CostEvent], *, epoch: str | None) -> int:
        """Store events from the stream, in one transaction; return how many were new. Twice is once.

        They are in the counters if `epoch`, read from the outbox before them, is that of the latest `recount`; else the counters
        they were in may be gone, and they are `uncounted`.
        """
        ...

    async def uncounted(self, *, limit: int) -> Sequence[CostEvent]:
        """Events that may not be in the counters yet, oldest first."""
        ...

    async def counted(self, ids: Sequence[str]) -> None:
        """These are in the counters now."""
        ...

    async def recount(self, spans: Sequence[Span]) -> tuple[str, Sequence[Spending]]:
        """A new epoch and what was spent until now, by scope and window; every event in these sums counts as counted.

        No event is missed or doubled: one that comes later is `uncounted`, also where it is booked with an earlier epoch. Give the
        sums to `Outbox.seed` with the epoch; where they cannot be seeded, recount again.
        """
        ...

    async def epoch(self) -> str | None:
        """That of the latest recount: counters of another one may lack what was marked as counted since."""
        ...

    async def spent(self, spans: Sequence[Span]) -> Sequence[Spending]:
        """What was spent by scope and window, every event rounded up to a micro-euro by itself, uncounted ones too."""
        ...

    async def total(self, *, bu: str | None = None, since: datetime | None = None) -> tuple[int, Decimal]:
        """Number of events and euros."""
        ...

    async def report(
        self, by: Sequence[str], *, since: datetime | None = None, until: datetime | None = None, bu: str | None = None
    ) -> Sequence[Line]:
        """Sums grouped by any of: hour, day, month, env, plane, bu, kind, model, key, step, instance."""
        ...

    async def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        bu: str | None = None,
        after: CostEvent | None = None,
        limit: int | None = None,
    ) -> Sequence[CostEvent]:
        """The lines themselves, oldest first; at most `limit` of those that come after `after`."""
        ...
