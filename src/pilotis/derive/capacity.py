"""What a measured machine serves: the knee of its throughput, and by Little's law how long a request is in it.

In a closed loop N callers ask again as soon as they are answered, so that N requests are inside at any time: L = N. Little's law
(J. D. C. Little, 1961), L = lambda W, then gives the time in service W = N / lambda from the rate lambda alone. Below the knee more
callers bring more answers; beyond it they only wait for one another.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

GROWTH = 0.05
"""Of the rate: where twice the callers bring less than that more, it has stopped growing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What so many callers at once got: times in milliseconds, rates a second."""

    callers: int
    rps: float
    p50_ms: float
    p95_ms: float
    vcpu_s: float | None = None
    """Seconds of vCPU of the API that a request took; None where the service does not tell."""

    processes: int | None = None
    """Of the API behind the address, by the share of the requests that one of them counted; None where the service does not tell."""

    @property
    def in_service_s(self) -> float:
        """W = L / lambda."""
        return self.callers / self.rps


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """One measurement of one machine, its steps in the order of their callers."""

    date: str
    """ISO 8601, UTC."""
    version: str
    """Of Pilotis."""
    cores: int
    url: str
    found: bool
    """Were the questions answered from documents? Without any the measurement flatters."""
    steps: tuple[Step, ...]

    @property
    def knee(self) -> Step:
        return knee(self.steps)

    @property
    def rps_per_vcpu(self) -> Decimal:
        """Requests a second that keep one vCPU of the API busy; three decimals.

        Where the service does not tell its processor time the whole machine is taken for it, with the stores and the callers that
        run on it: less than the API serves, never more.
        """
        at = self.knee
        return Decimal(f"{1 / at.vcpu_s if at.vcpu_s else at.rps / self.cores:.3f}")

    @property
    def rps_per_process(self) -> Decimal | None:
        """The most that one process of the API served, however many vCPUs were free; None where their number is not known."""
        at = self.knee
        return Decimal(f"{at.rps / at.processes:.3f}") if at.processes else None

    @property
    def basis(self) -> str:
        """What `rps_per_vcpu` was divided by."""
        return "the API's own processor time" if self.knee.vcpu_s else f"all {self.cores} vCPUs of the machine"

    def document(self) -> dict[str, Any]:
        """As JSON keeps it; `from_document` reads it back."""
        at = self.knee
        return {
            "date": self.date,
            "version": self.version,
            "cores": self.cores,
            "url": self.url,
            "found": self.found,
            "rps_per_vcpu": f"{self.rps_per_vcpu:f}",
            "rps_per_process": None if self.rps_per_process is None else f"{self.rps_per_process:f}",
            "basis": self.basis,
            "knee": {"callers": at.callers, "rps": at.rps, "p50_ms": at.p50_ms, "p95_ms": at.p95_ms},
            "in_service_s": round(at.in_service_s, 6),
            "steps": [{name: getattr(step, name) for name in Step.__slots__} for step in self.steps],
        }

    @classmethod
    def from_document(cls, found: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what `document` did not write."""
        steps = tuple(Step(**step) for step in found["steps"])
        if not steps or not all(
            step.rps > 0 and step.callers > 0 and _positive(step.vcpu_s) and _positive(step.processes) for step in steps
        ):
            raise ValueError("a step without requests")
        named = {name: found[name] for name in ("date", "version", "url")}
        return cls(**named, cores=int(found["cores"]), found=bool(found["found"]), steps=steps)


def knee(steps: Sequence[Step]) -> Step:
    """The last step before the rate stopped growing. Raises ValueError where there is none at all."""
    if not steps:
        raise ValueError("no step was measured")
    for one, other in itertools.pairwise(steps):
        if not grew(one, other):
            return one
    return steps[-1]


def grew(one: Step, other: Step) -> bool:
    """Did the rate grow by `GROWTH` from one step to the other?"""
    return other.rps >= one.rps * (1 + GROWTH)


def _positive(value: float | None) -> bool:
    return value is None or value > 0
