"""An alert as a value: its question, how urgent it is, and the measurements that make it fire and leave it silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from pilotis.contract.infra import Severity

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Measurements, one a minute from 0 in promtool's notation, and which labels the alert has `at` that time; none: it is silent."""

    why: str
    series: Mapping[str, str]
    at: str
    fires: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `summary` and `description` may name labels as `{{ $labels.NAME }}`."""

    name: str
    group: str
    """Which file it stands in: service, cost or batch."""
    expr: str
    for_: str
    """As Prometheus writes it, such as 5m."""
    severity: Severity
    summary: str
    description: str
    units: str
    """Of both sides of its comparison."""
    sample: int = 0
    """Events below which it says nothing; 0 where it counts none."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Those it has beside its severity."""
    cases: tuple[Case, ...] = field(default=(), repr=False)

    @property
    def waits(self) -> str:
        return self.for_


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A question whose answer is kept under a name. `labels` are those that it has; `units` of its value."""

    name: str
    group: str
    expr: str
    labels: tuple[str, ...]
    units: str


def span(seconds: int) -> str:
    """3600 is 1h, 5400 is 90m, 3661 is 3661s."""
    for unit, length in (("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def seconds(text: str) -> int:
    """The reverse of `span`, of one unit. Raises KeyError or ValueError for what is none."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[text[-1]]


def number(value: Decimal) -> str:
    """Without an exponent and without zeros at the end."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
