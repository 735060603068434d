"""Money and admission: who may ask, what it may cost, what it did cost, and what need not be paid twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol

from pilotis.derive.budget import Budget, Span, Window
from pilotis.ports.books import CostEvent, Plane

Right = str
"""`ask`, `ingest`, `admin`; `examine`, to have one release answer; `approve:ROLE`, to agree to releases. See `derive.keys`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key without its secret, which is shown once and stored as a SHA-256."""

    id: str
    bu: str
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    rights: frozenset[Right] = frozenset({"ask", "ingest"})
    expires_at: datetime | None = None
    budget: Budget | None = None
    """Its own, over the contract's budget of each key."""


class Keys(Protocol):
    """API keys, bound to a business unit, hashed at rest."""

    async def create(
        self,
        bu: str,
        name: str,
        *,
        rights: frozenset[Right] = frozenset({"ask", "ingest"}),
        expires_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> tuple[ApiKey, str]: ...

    async def resolve(self, secret: str) -> ApiKey:
        """Raises Unauthorised for a key that is unknown, revoked or expired."""
        ...

    async def list(self, bu: str | None = None) -> Sequence[ApiKey]: ...

    async def revoke(self, key_id: str) -> ApiKey: ...

    async def rotate(self, key_id: str, *, overlap_s: float) -> tuple[ApiKey, str]:
        """A new key in place of this one, which stays good for `overlap_s` more seconds. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What admission has to know of a request. Tuples go by step of the guardrail's ladder, the full service first."""

    id: str
    plane: Plane
    bu: str
    ceilings: tuple[int, ...]
    """The most it can cost at each step, in micro-euros rounded up."""
    key: str | None = None
    key_budget: Budget | None = None
    ip: str | None = None
    weight: float = 1.0
    """How many requests it counts for at the rate limits; one that is answered from the cache counts as one."""
    answer_keys: tuple[str, ...] = ()
    """Where its answer may be cached at each step; empty where it is not cached."""
    passages_keys: tuple[str, ...] = ()
    streamed: bool = False
    """Whether a cached answer is to come with the passages it shows."""
    resumed: bool = False
    """Admitted before, and waited for another's answer since: it passes the rate limits without counting again."""
    kind: Literal["answer", "search", "ingest", "eval"] = "answer"
    lasts_s: float | None = None
    """How long it may take at most; None takes the env's deadline. Its hold lasts a little longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money put aside for one request until it is settled, or until it expires because its process died."""

    id: str
    at: datetime
    """When it was admitted, by the clock of the budgets."""
    plane: Plane
    bu: str
    key: str | None
    micro: int
    """Micro-euros held; 0 where the request can cost nothing, and nothing is then held."""
    spans: tuple[Span, ...]
    is_metered: bool = True
    """False where the budgets were out of reach and the contract says to serve all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """An answer that was paid for before."""

    record: bytes
    shown: bytes | None
    """The passages it shows, where the request was streamed."""
    level: int
    """The step of the ladder at which it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that may go on."""

    hold: Hold
    level: int
    """The step of the guardrail's ladder in force for it; 0 is the full service."""
    answer: CachedAnswer | None = None
    passages: bytes | None = None
    """What its search found the last time."""
    flight: Literal["own", "other"] | None = None
    """Whether this request writes the answer that others wait for (`own`), or another one does; None where it is not cached.

    With `other` nothing is held: wait with `Cache.peek`, then ask again with `resumed`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a settled request leaves in the caches."""

    answer_key: str | None = None
    record: bytes = b""
    shown: bytes = b""
    passages_key: str | None = None
    passages: bytes = b""
    ttl_s: int
    documents: tuple[str, ...]
    """Documents it was made from: when one of them goes or changes, so does this. `*` stands for all of the business unit."""


class Admission(Protocol):
    """One atomic decision before a request, and one atomic account after it.

    At any time, for every scope and window with a limit: spent + held <= limit.
    """

    async def admit(self, request: Request) -> Admitted:
        """Rate limits, guardrail, budgets and caches in one round trip.

        Raises:
            Limited: a rate, a budget or the guardrail refuses; nothing is held.
            Transient: the meter is away, or is being rebuilt from the ledger.
        """
        ...

    def level(self, bu: str) -> tuple[int, str]:
        """The step of the ladder that is in force for the business unit as far as this process knows, and the scope (`env` or `bu:NAME`)
        that stands there: for when nobody can be asked.
        """
        ...

    def begin(self, hold: Hold) -> None:
        """Say that money is about to be spent on this hold. If its process dies now, the whole of it counts as spent. Does not wait."""
        ...

    async def settle(self, hold: Hold, event: CostEvent, keep: Kept | None = None) -> None:
        """Put the cost in the place of the hold, hand the event over for the ledger, keep what others may use. Twice is once.

        Raises Transient where the meter is away: the event must then go to the ledger directly.
        """
        ...

    async def release(self, hold: Hold) -> None:
        """Nothing was consumed: free the hold, and the flight of those who wait."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """Of one business unit, or of all."""

    answers: int
    passages: int
    bytes: int
    hits: int
    misses: int
    passage_hits: int
    saved_eur: Decimal
    """What the answers that were served again had cost."""


class Cache(Protocol):
    """Answers and search results of one business unit, never seen by another."""

    async def peek(self, bu: str, answer_key: str, *, streamed: bool = False) -> tuple[CachedAnswer | None, bool]:
        """The cached answer, and whether somebody is still writing it."""
        ...

    async def forget(self, bu: str, document_ids: Sequence[str]) -> int:
        """Remove whatever was made from these documents, also what is being written just now; return how many entries went."""
        ...

    async def clear(self, bu: str | None = None) -> int: ...

    async def stats(self, bu: str | None = None) -> CacheStats: ...

    async def sources(self) -> Collection[str]:
        """Documents that something was made from which would be served now, of all business units."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """Where the guardrail of one scope (`env` or `bu:NAME`) stands."""

    scope: str
    level: int
    """Step of the ladder, 0 is the full service."""
    since: datetime
    reason: str = ""
    recovering: bool = False
    """Whether the last move was a step down."""
    trips: int = 0
    """How often it was tripped again while it recovered: each time it then waits twice as long."""
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What answers have cost since `since`, by the ledger. Answers from the cache are not in it: they cost nothing."""

    since: datetime
    answers: int
    cost_eur: Decimal


class Guards(Protocol):
    """The guardrail's levels: stored with an audit line for each move, and known to admission."""

    async def states(self) -> Sequence[GuardState]: ...

    async def evidence(self, since: datetime, states: Sequence[GuardState]) -> Mapping[str, Evidence]:
        """By scope, `env` and each business unit that asked: online answers since then, or since the scope's last move if that is later."""
        ...

    async def move(self, state: GuardState, *, actor: str, figures: Mapping[str, Any]) -> bool:
        """Store `state` with its audit line and tell admission; False where another version than the one before it is stored."""
        ...

    async def announce(self) -> None:
        """Tell admission all levels again, as after a restart of Redis."""
        ...

    async def history(self, *, limit: int = 100, scope: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Moves, of one scope or of all, latest first: at, scope, from_level, to_level, actor, reason, figures."""
        ...


class Meter(Protocol):
    """Counts and times what happens; names are those of `derive.names`."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, /, **labels: str) -> None: ...


__all__ = [
    "Admission",
    "Admitted",
    "ApiKey",
    "Cache",
    "CacheStats",
    "CachedAnswer",
    "Evidence",
    "GuardState",
    "Guards",
    "Hold",
    "Kept",
    "Keys",
    "Meter",
    "Request",
    "Right",
    "Window",
]
