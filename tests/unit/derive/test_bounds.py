from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from pilotis.contract.load import parse
from pilotis.derive.check import check
from pilotis.derive.finding import Finding
from pilotis.derive.plan import derive

TODAY = dt.date(2026, 11, 23)
COSTS = "target_eur_per_1k = 16.5\nguardrail_eur_per_req = 0.1\n"
SLO = "[slo]\np95_ms = 5000\nhit_at_5 = 0.8\n[costs.fx]\nusd_per_eur = 1.25\ndate = 2026-11-01\n"
GPT5 = '[envs.prod]\nllm = "gpt-5"\nflags = []\ntop_k = 10\n'  # 1200 in, 400 out: 0.0044 €


def findings(env: str = "", costs: str = "month_eur = 1000", model: str = GPT5) -> dict[str, Finding]:
    found = check(derive(parse(f"[costs]\n{COSTS}{costs}\n{SLO}{model}{env}", Path("pilotis.toml"))), TODAY)
    assert len({finding.code for finding in found}) == len(found)
    return {finding.code: finding for finding in found}


def test_a_contract_without_a_flaw() -> None:
    assert findings("rates.env = 1\nbudgets.env = { hour_eur = 1, day_eur = 10 }\nrequests_per_day = 1500") == {}


@pytest.mark.parametrize(
    ("budgets", "key"),
    [
        ("env = { hour_eur = 0.004399 }", "budgets.env"),
        ("planes.online = { hour_eur = 0.004399 }", "budgets.planes.online"),
        ("bu = { hour_eur = 0.004399 }", "budgets.bu"),
        ("bus.sales = { hour_eur = 0.004399 }", "budgets.bus.sales"),
        ("key = { hour_eur = 0.004399 }", "budgets.key"),
    ],
)
def test_a_budget_that_is_too_small_for_one_answer(budgets: str, key: str) -> None:
    (finding,) = findings(f"[envs.prod.budgets]\n{budgets}").values()
    assert (finding.code, finding.severity, finding.env) == ("ceiling_above_budget", "error", "prod")
    assert f"one answer can cost 0.004400 € and {key} allows 0.004399 € per hour" in finding.message
    assert finding.figures == {"ceiling_eur": Decimal("0.0044"), "hour_eur": Decimal("0.004399")}
    assert findings(f"[envs.prod.budgets]\n{budgets.replace('399', '400')}") == {}


def test_ingestion_and_free_answers_fit_into_any_budget() -> None:
    assert findings("[envs.prod.budgets]\nplanes.batch = { hour_eur = 0.000001 }") == {}
    assert (
        findings("[envs.prod.budgets]\nenv = { hour_eur = 0.000001 }", model='[envs.prod]\nllm = "extractive"\nflags = []\n')
        == {}
    )


def test_business_units_that_may_spend_more_than_there_is() -> None:
    bus = "bus.a = { month_eur = 600 }\nbus.b = { month_eur = 400.5, day_eur = 99 }"
    (finding,) = findings(f"[envs.prod.budgets]\n{bus}").values()
    assert (finding.code, finding.severity) == ("budgets_overbooked", "info")
    assert "2 business units may spend 1000.5 € per month together, the env 1000 €" in finding.message
    assert findings(f"[envs.prod.budgets]\n{bus.replace('.5', '')}") == {}


def test_a_limit_that_never_counts() -> None:
    (finding,) = findings("[envs.prod.budgets]\nbu = { hour_eur = 5, month_eur = 4 }").values()
    assert (finding.code, finding.severity) == ("limit_never_reached", "warning")
    assert "budgets.bu allows 5 € per hour and 4 € per month" in finding.message


def test_a_months_budget_for_less_than_is_expected() -> None:
    # 2000 x 31 x 0.0165 = 1023
    (finding,) = findings("requests_per_day = 2000").values()
    assert (finding.code, finding.severity) == ("month_budget_short", "warning")
    assert "cost 1023.00 € in 31 days, the month's budget is 1000.00 €: it may be spent on day 31" in finding.message
    assert findings("requests_per_day = 1955") == {}
    assert findings("requests_per_day = 2000", "month_eur = 1023") == {}


def test_a_rate_that_spends_the_month_in_hours() -> None:
    (finding,) = findings("rates.env = 10").values()
    assert (finding.code, finding.severity) == ("month_budget_at_full_rate", "info")
    assert "pays for 60,606 requests" in finding.message
    assert "at 10 requests a second they last 1.7 h" in finding.message
    assert findings("rates.env = 10\nbudgets.env = { day_eur = 50 }") == {}


@pytest.mark.parametrize(("rate", "says"), [("0.01", "lets 37 through"), ("{ per_s = 0.01, burst = 2 }", "lets 38 through")])
def test_a_guardrail_that_never_hears_enough(rate: str, says: str) -> None:
    finding = findings(f"rates.env = {rate}")["sample_out_of_reach"]
    assert finding.severity == "warning"
    assert f"asks for 50 answers in 3600 s; the rate limit of 0.01 a second {says}" in finding.message
    assert "sample_out_of_reach" not in findings(f"rates.env = {rate}", "guardrail_min_sample = 37\nmonth_eur = 9")


def test_a_guardrail_that_rarely_hears_enough() -> None:
    (finding,) = findings("requests_per_day = 1199").values()
    assert (finding.code, finding.severity) == ("sample_rarely_reached", "info")
    assert "1,199 requests a day make 49 on average" in finding.message
    assert findings("requests_per_day = 1200") == {}


def test_a_guardrail_that_can_only_watch() -> None:
    assert findings(costs='month_eur = 9\nladder = ["no_rerank", "compact_model"]').keys() == {"guardrail_without_effect"}
    assert findings(costs='month_eur = 9\nladder = ["no_rerank", "refuse"]') == {}
    assert findings(costs="month_eur = 9\nladder = []", model='[envs.prod]\nllm = "extractive"\nflags = []\n') == {}


def test_a_compact_model_that_is_dearer() -> None:
    (finding,) = findings('compact = "gpt-5-pro"').values()
    assert (finding.code, finding.severity) == ("compact_saves_nothing", "warning")
    assert "an answer of gpt-5-pro can cost 0.0528 €, one of gpt-5 0.0044 €" in finding.message
    assert findings('compact = "gpt-5-nano"') == {}


def test_addresses_behind_a_proxy() -> None:
    assert findings("rates.ip = 5").keys() == {"ip_rate_without_hops"}
    assert findings("rates.ip = 5\n[infra]\ntrusted_hops = 1") == {}


UNKNOWN = '[envs.prod]\nllm = "gpt-5-of-tomorrow"\nflags = []\n'
CUSTOM = '[envs.prod]\nllm = { model = "mine", base_url = "http://m/v1" }\nflags = []\n'


@pytest.mark.parametrize(
    ("model", "policy", "severity", "says"),
    [
        (UNKNOWN, "", "error", "booked at the dearest price of openai"),
        (UNKNOWN, 'on_unknown_price = "dearest"', "warning", "booked at the dearest price of openai"),
        (UNKNOWN, 'on_unknown_price = "block"', "error", "requests are refused"),
        (UNKNOWN, 'on_unknown_price = "serve"', "warning", "it is booked at 0, which no budget can hold"),
        (CUSTOM, 'on_unknown_price = "dearest"', "error", "requests are refused"),
    ],
)
def test_a_price_that_is_unknown(model: str, policy: str, severity: str, says: str) -> None:
    finding = findings(costs=f"month_eur = 1000\n{policy}", model=model)["unknown_price"]
    assert finding.severity == severity
    assert says in finding.message


def test_half_a_price_and_those_of_models_that_stand_by() -> None:
    half = (
        '[costs.prices.half]\ninput_per_mtok = 1\n[envs.prod]\nllm = { model = "half", base_url = "http://m/v1" }\nflags = []\n'
    )
    assert "half of the price only is known for llm half" in findings(model=half)["unknown_price"].message
    for role in ("compact", "fallback"):
        finding = findings(f'{role} = {{ model = "mine", base_url = "http://m/v1" }}')["unknown_price"]
        assert f"no price is known for {role} mine at custom" in finding.message
