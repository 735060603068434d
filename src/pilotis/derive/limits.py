"""Limits in the units in which they are kept, and what a caller is told when one of them says no. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from pilotis.derive.budget import MICRO, Budget, Rate, Span, Window
from pilotis.errors import Limited

HELD_RETRY_S, GUARD_RETRY_S = 1.0, 60.0


def micro_limit(budget: Budget, window: Window) -> int | None:
    """Whole micro-euros that a window may spend, rounded down; None without a limit."""
    limit_eur = budget.limit(window)
    return None if limit_eur is None else int((limit_eur * MICRO).to_integral_value(rounding=ROUND_FLOOR))


@lru_cache(maxsize=256)
def interval_us(rate: Rate) -> int:
    """Microseconds from one request to the next in the long run."""
    return max(1, round(1_000_000 / rate.per_s))


@lru_cache(maxsize=4096)
def network(ip: str) -> str:
    """Whose rate an address counts for: its own, and for IPv6 that of its /64, all of which one customer has."""
    try:
        address = ip_address(ip)
    except ValueError:  # such as the name of a socket
        return sha256(ip.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


def too_fast(scope: str, rate: Rate, *, wait_us: int, now: datetime) -> Limited:
    """A rate limit refuses: `env`, `ip` or `bu:NAME`."""
    wait_s = wait_us / 1e6
    return Limited(
        f"the limit of {_whose(scope)} is {rate.per_s:f} requests a second, {rate.burst} at once",
        remedy=f"ask again in {max(wait_s, 0.1):.1f} s",
        retry_after_s=wait_s,
        scope=scope,
        limit=f"{rate.per_s:f} a second, {rate.burst} at once",
        resets_at=now + timedelta(microseconds=wait_us),
    )


def guarded(step: str, scope: str) -> Limited:
    """The guardrail refuses: it stands at `step` for `env` or `bu:NAME`."""
    served = "only what was answered before is served" if step == "cache_only" else "no question is answered"
    return Limited(
        f"the answers of {_whose(scope)} cost more than agreed, so {served} for now",
        remedy="ask again later; see: pilotis guardrail status",
        status=503,
        code="guardrail",
        retry_after_s=GUARD_RETRY_S,
        scope=scope,
        limit=step,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tight:
    """A budget that has no room for a request, in micro-euros."""

    scope: str
    span: Span
    spent: int
    held: int
    limit: int

    @property
    def left(self) -> int:
        return self.limit - self.spent


def too_dear(tight: Tight, *, micro: int, now: datetime) -> Limited:
    """402 where the money is spent; 429 where requests under way hold what is left, some of which they may give back."""
    span, is_spent = tight.span, micro > tight.left
    # What all business units together have spent is nothing that one of them is told.
    own = tight.scope.startswith(("bu:", "key:"))
    figures = (
        f"{eur(tight.spent)} spent and {eur(tight.held)} held of {eur(tight.limit)}"
        if own
        else f"its limit is {eur(tight.limit)}"
    )
    why = "has no room left" if is_spent else "is held by requests under way, which leave no room"
    until = f"wait until {span.ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC, or raise the budget"
    return Limited(
        f"this {span.window}'s budget of {_whose(tight.scope)} {why} for one that may cost {eur(micro)}: {figures}",
        remedy=until if is_spent else "ask again in a second",
        status=402 if is_spent else 429,
        code="budget_exceeded" if is_spent else "budget_held",
        retry_after_s=(span.ends - now).total_seconds() if is_spent else HELD_RETRY_S,
        scope=tight.scope,
        window=span.window,
        limit=f"{eur(tight.limit)} per {span.window}",
        resets_at=span.ends,
    )


def eur(micro: int) -> str:
    """Micro-euros as a person reads them, exactly."""
    amount = Decimal(micro) / MICRO
    return f"{amount:.2f} EUR" if micro % 10_000 == 0 else f"{amount.normalize():f} EUR"


def _whose(scope: str) -> str:
    kind, _, name = scope.partition(":")
    return {
        "env": "this service",
        "plane": f"the {name} plane",
        "bu": f"business unit {name!r}",
        "key": "this API key",
        "ip": "this address",
    }[kind]
