"""Releases and the way they go out: what was stored of them, how traffic is split, what each arm did, and who agreed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

Arm = Literal["stable", "candidate"]
Outcome = Literal["pass", "fail", "inconclusive", "error"]
RolloutState = Literal[
    "pending",
    "awaiting_approval",
    "progressing",
    "holding",
    "promoting",
    "rolling_back",
    "rolled_back",
    "completed",
    "failed",
]
ENDED: frozenset[RolloutState] = frozenset({"rolled_back", "completed", "failed"})

LATENCY_BOUNDS_MS: tuple[int, ...] = (
    5,
    10,
    20,
    40,
    60,
    80,
    100,
    150,
    200,
    300,
    400,
    600,
    800,
    1200,
    1600,
    2400,
    3200,
    5000,
    8000,
)
"""Upper bounds of the buckets of latency; one bucket more stands for what is slower than the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An immutable bundle. `id` follows from what it holds, so the same bundle is the same release."""

    id: str
    env: str
    settings: tuple[str, ...]
    """KEY=VALUE over the contract's env, sorted; see `derive.variant.SETTINGS`."""
    contract: str
    """Digest of the contract it was made under."""
    author: str
    created_at: datetime
    image: str | None = None
    """sha256:… of the image; None where it changes the configuration alone."""
    generation: int | None = None
    """The index generation it searches; None takes the active one."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The move from `stable` to `candidate`, as it is stored. `version` is what compare-and-swap goes by."""

    id: str
    env: str
    candidate: str
    stable: str
    state: RolloutState
    stages: tuple[int, ...]
    """Shares of traffic in per cent, rising to 100, as the contract had them when it began."""
    stage: int
    """Index into `stages`."""
    weight: int
    """The share of traffic, in per cent, that the candidate shall have now."""
    author: str
    began_at: datetime
    since: datetime
    """When this state began."""
    confirmed_at: datetime | None = None
    """From when on the weight was seen to be in force: evidence counts from here. None until then."""
    reason: str = ""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    """The last one, with its numbers."""
    asked: Literal["abort", "promote"] | None = None
    """What a person asked for since; abort is never replaced."""
    asked_by: str = ""
    hard: bool = False
    """Whether the stable release is known to be broken: the candidate is then judged by the objectives alone."""
    router: str = "split"
    """Who moves the traffic: `split` (the API itself), `haproxy` or `argo`."""
    held_from: RolloutState | None = None
    """The state that `holding` goes back to once there is something to go by."""
    ends_at: datetime | None = None
    """The deadline of this state."""
    drift: int = 0
    """How often the weight was found as nobody had set it, and was put right."""
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One role agreed to one rollout, over the evidence it was shown."""

    rollout: str
    role: str
    by: str
    """The API key's id, or the name of the account on this machine."""
    at: datetime
    expires_at: datetime
    evidence: str
    """SHA-256 (hex) of what was shown: candidate, diff, price, verdict."""
    signature: str
    """HMAC-SHA256 (hex) over all of the above with the approver's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one arm did in a window. Nothing was seen is 0 requests; that nobody could say is an error of `Measures`."""

    since: datetime
    until: datetime
    requests: int = 0
    errors: int = 0
    """Requests that failed by our fault: 5xx, and streams that broke."""
    latency: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)
    """Requests by bucket of `LATENCY_BOUNDS_MS`."""
    paid: int = 0
    """Answers that were written, not taken from the cache."""
    cost_eur: Decimal = Decimal(0)
    """What these cost in all."""
    cost_sq: Decimal = Decimal(0)
    """Sum of the squares of their costs (EUR²)."""
    asked: int = 0
    """Golden questions that were asked of both arms."""
    hits: int = 0
    """Those with an expected document among this arm's first five."""
    won: int = 0
    """Those that this arm hit and the other missed."""
    saturation: float | None = None
    """The most of processor and memory in use, 0 to 1; None where it is not measured."""


class Arms(NamedTuple):
    """Two releases that share the traffic, by their ids."""

    stable: str
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How the API processes shall share their requests out; `weight` is the candidate's part, in per cent."""

    stable: str
    candidate: str | None = None
    weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one API process says of itself, each second and whenever its split changes."""

    instance: str
    url: str
    """Where this process itself is reached, such as http://127.0.0.1:8081."""
    release: str | None
    """The one release it serves, where it was started with PILOTIS_RELEASE; None where it follows the split."""
    split: Split | None
    """What is in force in it."""
    inside: Mapping[str, int] = field(default_factory=dict)
    """Requests under way, by release."""
    at: datetime | None = None
    """By the database's clock, when it was reported; filled in on reading."""


class Measures(Protocol):
    """What each release did: from the request log of this machine, or from Prometheus."""

    async def traffic(self, release: str, *, since: datetime, until: datetime) -> Traffic:
        """Raises Transient where nobody can say: that is no evidence, neither good nor bad."""
        ...


class Splits(Protocol):
    """The split that API processes follow, what they say is in force, and their log of requests. Of one env."""

    async def wanted(self) -> Split | None:
        """None before the first."""
        ...

    async def want(self, split: Split) -> None:
        """From now on; processes follow within half a second."""
        ...

    async def seen(self, *, within_s: float) -> Sequence[Seen]:
        """The latest word of each process that reported in the last `within_s` seconds, by the database's clock."""
        ...

    async def report(self, seen: Seen, traffic: Mapping[str, Traffic]) -> None:
        """Store the word of a process, and add what each release did in it since its last word (`since` and `until` are not read)."""
        ...

    async def trim(self) -> None:
        """Forget requests of more than a month ago, and processes that are gone."""
        ...

    async def examined(self, rollout: str, release: str, results: Mapping[str, bool]) -> None:
        """Store which golden questions (by id) had an expected document among the first five; a later result of one replaces it."""
        ...

    async def examinations(self, rollout: str) -> Mapping[str, Mapping[str, bool]]:
        """By release: the results that are stored."""
        ...


class Examiner(Protocol):
    """Puts golden questions to one release."""

    async def examine(self, release: str, *, left: frozenset[str]) -> Mapping[str, bool]:
        """Ask some of those whose ids are in `left`, a few seconds' worth; the outcome of each that was asked.

        Raises Transient where no process of that release can be reached.
        """
        ...

    @property
    def questions(self) -> frozenset[str]:
        """The ids of all; empty where the contract names no golden set."""
        ...


class TrafficRouter(Protocol):
    """Splits traffic between the stable release and the candidate. It remembers nothing: what it is told is enough."""

    name: str

    async def set(self, arms: Arms, weight: int) -> None:
        """Give the candidate `weight` per cent, stable the rest: whoever gets more is raised and read back before the other is lowered.

        Twice is once. Raises Transient where the router is away, Permanent where it refuses.
        """
        ...

    async def read(self, arms: Arms) -> int | None:
        """The candidate's share in per cent as the router itself tells; None where that is not settled: it has no such arm, or its
        parts do not agree (yet). Raises Transient.
        """
        ...

    async def healthy(self, arms: Arms, arm: Arm) -> bool:
        """Whether the arm can serve: a process is there and ready. Raises Transient."""
        ...

    async def drained(self, arms: Arms) -> bool:
        """Whether no request is under way on the candidate. Raises Transient."""
        ...


class Releases(Protocol):
    """Releases, rollouts, approvals and the trail of one env."""

    async def add(self, release: Release) -> Release:
        """Store it; the one that is there where it was stored before."""
        ...

    async def get(self, release: str) -> Release:
        """By its id or an unambiguous beginning of it. Raises NotFound."""
        ...

    async def list(self, *, limit: int = 50) -> Sequence[Release]:
        """Latest first."""
        ...

    async def stable(self) -> str | None:
        """The release that all traffic has when nothing moves; None before the first."""
        ...

    async def rollout(self, rollout: str | None = None) -> Rollout | None:
        """One of them, by default the latest. None where there is none."""
        ...

    async def history(self, *, limit: int = 50) -> Sequence[Rollout]:
        """Latest first."""
        ...

    async def begin(self, rollout: Rollout, *, actor: str) -> bool:
        """Store a new rollout with its line in the trail; False where another one is under way."""
        ...

    async def swap(
        self, rollout: Rollout, *, actor: str, figures: Mapping[str, Any], stable: str | None = None, fence: int | None = None
    ) -> bool:
        """Replace version - 1 by this one, with its line in the trail and, where given, a new stable release: all or nothing.

        False where somebody else was first, or where `fence` is older than the lease in force.
        """
        ...

    async def lease(self, holder: str, *, ttl_s: float) -> int | None:
        """Who controls this env now: a fence that rises with each new holder; None where somebody else holds it."""
        ...

    async def approve(self, approval: Approval) -> None:
        """Store it with its line in the trail; a later one of the same role replaces it."""
        ...

    async def approvals(self, rollout: str) -> Sequence[Approval]:
        """Those that were given, one a role."""
        ...

    async def trail(self, *, rollout: str | None = None, limit: int | None = None) -> Sequence[Mapping[str, Any]]:
        """The audit, oldest first: n, at, actor, action, rollout, figures, before (hash of the line before), hash."""
        ...

    async def last(self) -> tuple[int, str]:
        """The number of the last line and its hash, kept apart from the lines; 0 and empty before the first."""
        ...

    async def note(self, *, actor: str, action: str, rollout: str | None, figures: Mapping[str, Any]) -> None:
        """Add a line to the trail."""
        ...
