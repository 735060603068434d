"""What waits to be indexed: seen, paused, tried again, given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

WorkQueue = Literal["ingest", "embed"]
Nudged = Literal["ingest", "embed", "upkeep", "schedule", "eval"]

EVERYBODY = "*"
"""Stands for all business units where a queue is paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What of one business unit waits in one queue; `failed` is the list of the dead letters."""

    queue: Literal["ingest", "embed", "failed"]
    bu: str
    documents: int
    passages: int = 0
    """Of `embed`: those that have no vector yet."""
    oldest_s: float = 0.0
    """Since the first of them was received."""
    paused_until: datetime | None = None
    """None where the queue works for it; in the year 9999 where somebody has to resume it."""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A queue that rests for a business unit, or for `EVERYBODY`."""

    queue: WorkQueue
    bu: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a provider allows in a minute; None where it sets no such limit."""

    calls_per_min: float | None = None
    tokens_per_min: float | None = None


class Pace(Protocol):
    """The quotas of providers, shared by all processes. Raises Transient where Redis is away."""

    async def take(self, model: str, quota: Quota, *, tokens: int) -> float:
        """Seconds to wait before a call of so many tokens may go out; 0: it may now, and is counted."""
        ...

    async def rest(self, model: str, seconds: float) -> None:
        """Let nobody call it for so long: it has said that it is overloaded."""
        ...


class Backlog(Protocol):
    """The queues as their rows tell them."""

    async def waiting(self) -> Sequence[Waiting]:
        """By queue and business unit; those for which nothing waits are left out."""
        ...

    async def retry(self, bu: str | None = None, ids: Sequence[str] | None = None) -> int:
        """Let failed documents begin again, with all their attempts: these, those of the business unit, or all; return how many."""
        ...

    async def cancel(self, bu: str, ids: Sequence[str], *, reason: str) -> Sequence[str]:
        """Give up documents that wait or are being worked on: they count as failed. What they showed before stays; return which."""
        ...

    async def pause(self, queue: WorkQueue, bu: str, *, until: datetime | None, reason: str) -> None:
        """Let the queue rest for a business unit (or `EVERYBODY`), until then or, with None, until `resume`."""
        ...

    async def resume(self, queue: WorkQueue | None = None, bu: str | None = None) -> int:
        """End pauses; return how many."""
        ...

    async def pauses(self) -> Sequence[Pause]: ...
