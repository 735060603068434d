"""What `check` finds in a contract, with its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know about a contract. An `error` makes it refused; a `warning` asks for a decision, an `info` for none."""

    severity: Severity
    code: str
    env: str | None
    message: str
    remedy: str
    figures: Mapping[str, Decimal | int] = field(default_factory=dict)


def above(amount: Decimal, limit: Decimal, places: int) -> tuple[str, str]:
    """Both as text, with as many decimals more as it takes to tell them apart."""
    while places < 12 and amount != limit and f"{amount:.{places}f}" == f"{limit:.{places}f}":
        places += 2
    return f"{amount:.{places}f} €", f"{limit:.{places}f} €"
