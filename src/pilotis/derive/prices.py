"""Dated prices per model and per token class, and the exchange rate that turns dollars into euros."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilotis.contract.model import Costs, ModelPrice


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Prices of all tokens of a call whose input is longer than `above` tokens."""

    above: int
    input: Decimal | None = None
    cached: Decimal | None = None
    output: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs: per million tokens of each class, and per thousand calls.

    None where the class has no published price; a cached token without a price of its own costs what an input token costs.
    """

    currency: Literal["EUR", "USD"]
    input: Decimal | None = None
    cached: Decimal | None = None
    output: Decimal | None = None
    per_1k_calls: Decimal = Decimal(0)
    tiers: tuple[Tier, ...] = ()

    def at(self, input_tokens: int) -> Price:
        """The price in force for a call with that many input tokens: the highest tier it exceeds."""
        reached = [tier for tier in self.tiers if input_tokens > tier.above]
        if not reached:
            return self
        tier = reached[-1]
        known = {name: value for name in ("input", "cached", "output") if (value := getattr(tier, name)) is not None}
        return replace(self, tiers=(), **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fx:
    """An exchange rate, as the ledger keeps it: euros = dollars / `usd_per_eur`."""

    usd_per_eur: Decimal
    date: dt.date
    source: str
    rounding: str = "12 decimals, half to even"

    def record(self) -> dict[str, str]:
        return {
            "usd_per_eur": str(self.usd_per_eur),
            "date": self.date.isoformat(),
            "source": self.source,
            "rounding": self.rounding,
        }


ECB = Fx(usd_per_eur=Decimal("1.1355"), date=dt.date(2026, 9, 30), source="ECB euro foreign exchange reference rate")
"""The rate of a contract without one (https://www.ecb.europa.eu/stats/eurofxref/)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """List prices by provider and model, under the prices that the contract sets."""

    source: str
    version: str
    date: dt.date
    sha256: str
    """Digest of the list prices."""
    listed: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    agreed: Mapping[str, ModelPrice] = field(default_factory=dict)
    """Prices of the contract, by model; they come first."""

    @property
    def id(self) -> str:
        """Which prices these are, short enough for every line of the ledger."""
        name = f"{self.source} {self.version} {self.date.isoformat()} {self.sha256[:12]}"
        if not self.agreed:
            return name
        text = json.dumps({model: price.model_dump() for model, price in self.agreed.items()}, sort_keys=True, default=_plain)
        return f"{name} + contract {hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def find(self, provider: str, model: str) -> Price | None:
        """The price of a model at a provider, None where nobody knows it. What runs in the service itself costs 0 a token."""
        agreed = self.agreed.get(model) or self.agreed.get(f"{provider}/{model}")
        if agreed is not None:
            return _agreed(agreed)
        if provider == "local":
            return Price(currency="EUR", input=Decimal(0), output=Decimal(0))
        row = self._row(provider, model.lower())
        return None if row is None else _price(row)

    def nearest(self, model: str) -> str | None:
        """The known model whose name comes closest."""
        names = [row["id"] for rows in self.listed.values() for row in rows] + list(self.agreed)
        return next(iter(difflib.get_close_matches(model, names, n=1, cutoff=0.75)), None)

    def _row(self, provider: str, model: str) -> Mapping[str, Any] | None:
        rows = self.listed.get(provider, ())
        exact = (row for row in rows if row["id"].lower() == model or model in row.get("match", ()))
        alike = (row for row in rows if any("*" in name and fnmatchcase(model, name) for name in row.get("match", ())))
        return next(exact, None) or next(alike, None)


@cache
def list_prices() -> PriceBook:
    """The price book that ships with this version. Raises SetupError where its digest does not fit: it was altered."""
    data = json.loads(resources.files("pilotis.derive").joinpath("data/prices.json").read_text(encoding="utf-8"))
    canonical = json.dumps(data["models"], sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(canonical.encode()).hexdigest() != data["sha256"]:
        raise SetupError("The price book was altered after it was built: its digest does not fit.", remedy="Reinstall pilotis.")
    return PriceBook(
        source=data["source"],
        version=data["version"],
        date=dt.date.fromisoformat(data["date"]),
        sha256=data["sha256"],
        listed=data["models"],
    )


def book_of(costs: Costs) -> PriceBook:
    """The list prices under those of a contract."""
    return replace(list_prices(), agreed=costs.prices)


def fx_of(costs: Costs) -> Fx:
    """The exchange rate of a contract, or the built-in one."""
    if costs.fx is None:
        return ECB
    return Fx(usd_per_eur=costs.fx.usd_per_eur, date=costs.fx.date, source=costs.fx.source)


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


def _agreed(price: ModelPrice) -> Price:
    by_call = price.input_per_mtok is None and price.output_per_mtok is None
    return Price(
        currency=price.currency,
        input=Decimal(0) if by_call else price.input_per_mtok,
        cached=price.cached_input_per_mtok,
        output=Decimal(0) if by_call else price.output_per_mtok,
        per_1k_calls=price.per_1k_calls or Decimal(0),
    )


def _price(row: Mapping[str, Any]) -> Price:
    classes = {name: Decimal(row[name]) for name in ("input", "cached", "output") if name in row}
    tiers = tuple(
        Tier(above=tier["above"], **{name: Decimal(tier[name]) for name in ("input", "cached", "output") if name in tier})
        for tier in row.get("tiers", ())
    )
    return Price(currency="USD", tiers=tiers, **classes)
