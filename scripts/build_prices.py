"""Write the price book that ships with the package, from the installed `genai-prices`.

    python scripts/build_prices.py [--as-of 2026-11-23]

The book is data under review: an update is a commit that shows which prices moved, never something a running service fetches.
Prices are in dollars, per million tokens; a tier applies to all tokens of a request whose input is longer than `above`
(https://github.com/pydantic/genai-prices). Where a price depends on the hour of the day, the dearest stands.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import types
from genai_prices.data import providers

TARGET = Path(__file__).parent.parent / "src/pilotis/derive/data/prices.json"
PROVIDERS = {
    "anthropic": "anthropic",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "google": "google",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "together": "together",
    "voyageai": "voyage",
}
CLASSES = {"input": "input_mtok", "cached": "cache_read_mtok", "output": "output_mtok"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--as-of", type=dt.date.fromisoformat, default=dt.datetime.now(dt.UTC).date())
    as_of: dt.date = arguments.parse_args().as_of
    models = {
        PROVIDERS[provider.id]: [row for model in provider.models if (row := row_of(model, as_of))]
        for provider in sorted(providers, key=lambda provider: provider.id)
        if provider.id in PROVIDERS
    }
    book = {
        "source": "genai-prices",
        "version": version("genai-prices"),
        "date": as_of.isoformat(),
        "currency": "USD",
        "sha256": hashlib.sha256(json.dumps(models, sort_keys=True, separators=(",", ":")).encode()).hexdigest(),
    }
    head = json.dumps(book, indent=1)[:-2]
    rows = ",\n".join(
        f"{json.dumps(provider)}: [\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in listed) + "\n]"
        for provider, listed in models.items()
    )
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(f'{head},\n "models": {{\n{rows}\n}}}}\n')
    print(f"{sum(map(len, models.values()))} models, {TARGET.stat().st_size:,} bytes, sha256 {book['sha256']}")


def row_of(model: types.ModelInfo, as_of: dt.date) -> dict[str, Any] | None:
    """The model's names and prices on that day; None where it has no price per token."""
    prices = priced(model, as_of)
    if prices is None:
        return None
    row: dict[str, Any] = {"id": model.id}
    names = [name for name in patterns(model.match) if name != model.id.lower()]
    if names:
        row["match"] = names
    tiers: dict[int, dict[str, str]] = {}
    for name, key in CLASSES.items():
        value = getattr(prices, key)
        if isinstance(value, types.TieredPrices):
            for tier in value.tiers:
                tiers.setdefault(tier.start, {})[name] = plain(tier.price)
            value = value.base
        if value is not None:
            row[name] = plain(value)
    if tiers:
        row["tiers"] = [{"above": start, **tiers[start]} for start in sorted(tiers)]
    return row if "input" in row or "output" in row else None


def priced(model: types.ModelInfo, as_of: dt.date) -> types.ModelPrice | None:
    if isinstance(model.prices, types.ModelPrice):
        return model.prices
    dated = [
        price.prices
        for price in model.prices
        if price.constraint is None
        or (isinstance(price.constraint, types.StartDateConstraint) and price.constraint.start_date <= as_of)
    ]
    hourly = [price.prices for price in model.prices if isinstance(price.constraint, types.TimeOfDateConstraint)]
    return max([*dated[-1:], *hourly], key=dearness, default=None)


def dearness(prices: types.ModelPrice) -> Decimal:
    total = Decimal(0)
    for value in (prices.input_mtok, prices.output_mtok):
        if value is not None:
            total += value.base if isinstance(value, types.TieredPrices) else value
    return total


def patterns(match: Any) -> list[str]:
    """The names a model answers to, in lower case, `*` for what may stand before or after."""
    if isinstance(match, types.ClauseOr):
        return sorted({name for clause in match.or_ for name in patterns(clause)})
    if isinstance(match, types.ClauseEquals):
        return [match.equals.lower()]
    if isinstance(match, types.ClauseStartsWith):
        return [f"{match.starts_with.lower()}*"]
    if isinstance(match, types.ClauseEndsWith):
        return [f"*{match.ends_with.lower()}"]
    if isinstance(match, types.ClauseContains):
        return [f"*{match.contains.lower()}*"]
    return []


def plain(price: Decimal) -> str:
    return format(price.normalize(), "f")


if __name__ == "__main__":
    main()
