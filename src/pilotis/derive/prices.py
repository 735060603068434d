"""Dated prices per model and per token class, and the exchange rate that turns dollars into euros."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilotis.contract.costs import Costs, ModelPrice


Class = Literal["input", "cached", "output"]
"""A class of tokens."""


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

    @property
    def is_complete(self) -> bool:
        """Whether both what is read and what is written have a price."""
        return self.input is not None and self.output is not None

    def unit(self, name: Class) -> Decimal | None:
        """The price of a million tokens of that class; None where it is not known."""
        if name == "cached":
            return self.input if self.cached is None else self.cached
        return self.input if name == "input" else self.output

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceBook:
    """List prices by provider and model, under the prices that the contract sets.

    Compared by identity, so that what was looked up once can be kept.
    """

    source: str
    version: str
    date: dt.date
    sha256: str
    """Digest of the list prices."""
    listed: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    agreed: Mapping[str, ModelPrice | tuple[ModelPrice, ...]] = field(default_factory=dict)
    """Prices of the contract, by model; they come first. Several for one model are in the order of their days."""

    @property
    def id(self) -> str:
        """Which prices these are, short enough for every line of the ledger."""
        return _id(self)

    def find(self, provider: str, model: str, at: dt.date | None = None) -> Price | None:
        """The price of a model at a provider on a day (in UTC), None where nobody knows it.

        Without a day it is the last of the contract's prices. Before the first of them it is the list price, and where there is none
        that first one. What runs in the service itself costs 0 a token.
        """
        return _find(self, provider, model, at)

    def days(self, since: dt.date | None = None) -> tuple[dt.date, ...]:
        """The day `since`, or the beginning of time, and each later day from which the contract has another price."""
        begins = since or dt.date.min
        changes = {entry.valid_from for model in self.agreed for entry in _entries(self, "", model)}
        return (begins, *sorted(day for day in changes if day is not None and day > begins))

    def dearest(self, provider: str, fx: Fx, at: dt.date | None = None) -> Price | None:
        """Of each class of tokens the dearest known price of a provider, in dollars, tiers included; None where nothing of it is known.

        The provider's models are those of the list, and those that the contract prices as `provider/model`.
        """
        return _dearest(self, provider, fx, at)

    def nearest(self, model: str) -> str | None:
        """The known model whose name comes closest."""
        names = [row["id"] for rows in self.listed.values() for row in rows] + list(self.agreed)
        return next(iter(difflib.get_close_matches(model, names, n=1, cutoff=0.75)), None)


@lru_cache(maxsize=64)
def _id(book: PriceBook) -> str:
    name = f"{book.source} {book.version} {book.date.isoformat()} {book.sha256[:12]}"
    if not book.agreed:
        return name
    rows = {
        model: [entry.model_dump(mode="json", exclude_none=True) | _amounts(entry) for entry in _entries(book, "", model)]
        for model in book.agreed
    }
    return f"{name} + contract {hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]}"


@lru_cache(maxsize=4096)
def _find(book: PriceBook, provider: str, model: str, at: dt.date | None) -> Price | None:
    entries = _entries(book, provider, model)
    in_force = [entry for entry in entries if at is None or entry.valid_from is None or entry.valid_from <= at]
    if in_force:
        return _agreed(in_force[-1])
    if provider == "local":
        return Price(currency="EUR", input=Decimal(0), output=Decimal(0))
    row = _row(book, provider, model.lower())
    if row is not None:
        return _price(row)
    return _agreed(entries[0]) if entries else None


@lru_cache(maxsize=256)
def _dearest(book: PriceBook, provider: str, fx: Fx, at: dt.date | None) -> Price | None:
    models = {row["id"] for row in book.listed.get(provider, ())}
    models |= {model.removeprefix(f"{provider}/") for model in book.agreed if model.startswith(f"{provider}/")}
    prices = [found for model in models if (found := book.find(provider, model, at))]

    def most(names: tuple[str, ...]) -> Decimal | None:
        units = (
            value * (fx.usd_per_eur if price.currency == "EUR" else 1)
            for price in prices
            for rate in (price, *price.tiers)
            for name in names
            if (value := getattr(rate, name)) is not None
        )
        return max(units, default=None)

    read = most(("input", "cached"))
    if read is None:
        return None
    by_call = max(price.per_1k_calls * (fx.usd_per_eur if price.currency == "EUR" else 1) for price in prices)
    return Price(currency="USD", input=read, cached=read, output=most(("output",)), per_1k_calls=by_call)


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


def _entries(book: PriceBook, provider: str, model: str) -> tuple[ModelPrice, ...]:
    agreed = book.agreed.get(model) or book.agreed.get(f"{provider}/{model}") or ()
    return agreed if isinstance(agreed, tuple) else (agreed,)


def _row(book: PriceBook, provider: str, model: str) -> Mapping[str, Any] | None:
    rows = book.listed.get(provider, ())
    exact = (row for row in rows if row["id"].lower() == model or model in row.get("match", ()))
    alike = (row for row in rows if any("*" in name and fnmatchcase(model, name) for name in row.get("match", ())))
    return next(exact, None) or next(alike, None)


def _amounts(entry: ModelPrice) -> dict[str, str]:
    return {name: format(value.normalize(), "f") for name, value in entry if isinstance(value, Decimal)}


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
