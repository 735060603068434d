from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from importlib import resources

import pytest

from pilotis.contract.costs import Costs, Fx, ModelPrice
from pilotis.derive.prices import ECB, Price, PriceBook, book_of, fx_of, list_prices
from pilotis.errors import SetupError


def test_the_list_price_of_the_specifications_models() -> None:
    pro, mini = list_prices().find("openai", "gpt-5-pro"), list_prices().find("openai", "gpt-5-mini")
    assert pro == Price(currency="USD", input=Decimal(15), output=Decimal(120))
    assert mini == Price(currency="USD", input=Decimal("0.25"), cached=Decimal("0.025"), output=Decimal(2))


def test_dated_names_and_capitals_find_their_model() -> None:
    book = list_prices()
    assert book.find("openai", "GPT-5-mini-2025-08-07") == book.find("openai", "gpt-5-mini")
    assert book.find("anthropic", "claude-opus-4-5-20251101") == book.find("anthropic", "claude-opus-4-5")


def test_a_model_is_priced_at_its_provider_only() -> None:
    assert list_prices().find("openai", "gpt-5-mini") is not None
    assert list_prices().find("custom", "gpt-5-mini") is None
    assert list_prices().find("openai", "gpt-5-mini-of-somebody") is None


def test_what_runs_in_the_service_costs_no_tokens() -> None:
    price = list_prices().find("local", "all-MiniLM-L6-v2")
    assert price == Price(currency="EUR", input=Decimal(0), output=Decimal(0))


def test_the_contract_comes_first() -> None:
    price = ModelPrice(input_per_mtok=Decimal(1), output_per_mtok=Decimal(2))
    book = book_of(Costs(prices={"gpt-5-pro": price, "together/qwen": price}))
    for provider, model in (("openai", "gpt-5-pro"), ("custom", "gpt-5-pro"), ("together", "qwen")):
        found = book.find(provider, model)
        assert found == Price(currency="EUR", input=Decimal(1), output=Decimal(2))
    assert book.find("groq", "qwen") is None


def test_a_price_by_the_call_is_the_whole_price_and_half_a_price_is_not() -> None:
    book = book_of(Costs(prices={"rr": ModelPrice(per_1k_calls=Decimal(2)), "half": ModelPrice(input_per_mtok=Decimal(1))}))
    by_call, half = book.find("custom", "rr"), book.find("custom", "half")
    assert by_call == Price(currency="EUR", input=Decimal(0), output=Decimal(0), per_1k_calls=Decimal(2))
    assert half is not None
    assert half.output is None


def test_the_id_tells_which_prices_were_used() -> None:
    book = list_prices()
    assert book.id == f"genai-prices {book.version} {book.date} {book.sha256[:12]}"
    ours = book_of(Costs(prices={"m": ModelPrice(input_per_mtok=Decimal(1))}))
    theirs = book_of(Costs(prices={"m": ModelPrice(input_per_mtok=Decimal(2))}))
    assert len({book.id, ours.id, theirs.id}) == 3
    assert ours.id == book_of(Costs(prices={"m": ModelPrice(input_per_mtok=Decimal("1.00"))})).id


def test_a_book_altered_by_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = resources.files("pilotis.derive").joinpath("data/prices.json").read_text()
    altered = json.loads(text)
    altered["models"]["openai"][0]["input"] = "0"

    class Folder:
        def joinpath(self, _: str) -> Folder:
            return self

        def read_text(self, encoding: str) -> str:
            return json.dumps(altered)

    monkeypatch.setattr("pilotis.derive.prices.resources.files", lambda _: Folder())
    with pytest.raises(SetupError, match="digest does not fit"):
        list_prices.__wrapped__()


def test_tiers_take_all_tokens_of_a_long_call() -> None:
    price = list_prices().find("anthropic", "claude-sonnet-4-5")
    assert price is not None
    assert price.tiers
    above = price.tiers[0].above
    assert price.at(above).input == price.input
    assert price.at(above + 1).input == price.tiers[0].input != price.input


def test_the_nearest_name_helps_with_a_typo() -> None:
    assert list_prices().nearest("gpt-5-mni") == "gpt-5-mini"
    assert list_prices().nearest("zzzzzzz") is None


def test_the_rate_of_the_contract_or_the_built_in_one() -> None:
    assert fx_of(Costs()) == ECB
    assert ECB.record() == {
        "usd_per_eur": "1.1355",
        "date": "2026-09-30",
        "source": "ECB euro foreign exchange reference rate",
        "rounding": "12 decimals, half to even",
    }
    agreed = Fx(usd_per_eur=Decimal("1.1"), date=dt.date(2026, 1, 2), source="treasury")
    assert fx_of(Costs(fx=agreed)) == replace(ECB, usd_per_eur=Decimal("1.1"), date=dt.date(2026, 1, 2), source="treasury")


def dated(*entries: tuple[str | None, int], model: str = "m") -> PriceBook:
    rows = (ModelPrice(valid_from=_day(day), input_per_mtok=Decimal(unit)) for day, unit in entries)
    return book_of(Costs(prices={model: tuple(rows)}))


@pytest.mark.parametrize(
    ("day", "unit"), [("2020-01-01", 1), ("2026-05-31", 1), ("2026-06-01", 2), ("2026-11-30", 2), ("2026-12-01", 3), (None, 3)]
)
def test_a_price_holds_from_its_day_on(day: str | None, unit: int) -> None:
    book = dated((None, 1), ("2026-06-01", 2), ("2026-12-01", 3))
    found = book.find("custom", "m", _day(day))
    assert found is not None
    assert found.input == unit


def test_before_the_first_day_the_list_price_holds_or_else_the_first() -> None:
    before = dt.date(2026, 1, 1)
    listed = dated(("2026-06-01", 2), model="gpt-5-pro")
    assert listed.find("openai", "gpt-5-pro", before) == list_prices().find("openai", "gpt-5-pro")
    assert listed.find("openai", "gpt-5-pro", dt.date(2026, 6, 1)) == Price(currency="EUR", input=Decimal(2))
    assert dated(("2026-06-01", 2)).find("custom", "m", before) == Price(currency="EUR", input=Decimal(2))


def test_on_which_days_a_price_changes() -> None:
    book = dated((None, 1), ("2026-06-01", 2), ("2026-12-01", 3))
    assert book.days() == (dt.date.min, dt.date(2026, 6, 1), dt.date(2026, 12, 1))
    assert book.days(dt.date(2026, 6, 1)) == (dt.date(2026, 6, 1), dt.date(2026, 12, 1))
    assert list_prices().days(dt.date(2026, 1, 1)) == (dt.date(2026, 1, 1),)


def test_dates_and_sources_are_part_of_the_id() -> None:
    ids = {dated(("2026-06-01", 2)).id, dated(("2026-06-02", 2)).id, dated((None, 2)).id}
    ids.add(book_of(Costs(prices={"m": ModelPrice(input_per_mtok=Decimal(2), source="offer")})).id)
    assert len(ids) == 4


def test_the_dearest_of_a_provider_goes_class_by_class_and_through_its_tiers() -> None:
    book = replace(
        list_prices(),
        listed={
            "here": [
                {"id": "reader", "input": "9", "cached": "1", "output": "2", "tiers": [{"above": 10, "output": "30"}]},
                {"id": "writer", "input": "1", "cached": "10", "output": "20"},
            ],
            "vectors": [{"id": "v", "input": "1"}],
        },
    )
    assert book.dearest("here", ECB) == Price(currency="USD", input=Decimal(10), cached=Decimal(10), output=Decimal(30))
    assert book.dearest("vectors", ECB) == Price(currency="USD", input=Decimal(1), cached=Decimal(1))
    assert book.dearest("nowhere", ECB) is None
    assert book.dearest("local", ECB) is None


def test_the_dearest_knows_what_the_contract_agreed_with_the_provider() -> None:
    fx = replace(ECB, usd_per_eur=Decimal(2))
    price = ModelPrice(input_per_mtok=Decimal(100), output_per_mtok=Decimal(200), per_1k_calls=Decimal(3))
    own = book_of(Costs(prices={"ours/big": price, "elsewhere": price, "gpt-5-pro": ModelPrice(input_per_mtok=Decimal(0))}))
    assert own.dearest("ours", fx) == Price(
        currency="USD", input=Decimal(200), cached=Decimal(200), output=Decimal(400), per_1k_calls=Decimal(6)
    )
    assert own.dearest("custom", fx) is None
    before, after = list_prices().dearest("openai", fx), own.dearest("openai", fx)
    assert before is not None
    assert after is not None
    assert after.input is not None
    assert before.input is not None
    assert after.input <= before.input


def _day(text: str | None) -> dt.date | None:
    return None if text is None else dt.date.fromisoformat(text)
