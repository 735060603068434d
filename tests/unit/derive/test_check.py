from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from pilotis.contract.load import load, parse
from pilotis.derive.check import check
from pilotis.derive.finding import Finding
from pilotis.derive.plan import derive

EXAMPLES = Path(__file__).parents[3] / "examples"
TODAY = dt.date(2026, 11, 23)
FINE = (
    "[costs]\ntarget_eur_per_1k = 16.5\nguardrail_eur_per_req = 0.02\nmonth_eur = 100\n[slo]\np95_ms = 5000\nhit_at_5 = 0.8\n"
)


def findings(text: str, today: dt.date = TODAY) -> tuple[Finding, ...]:
    return check(derive(parse(text, Path("pilotis.toml"))), today)


def codes(text: str) -> set[tuple[str, str | None]]:
    return {(finding.code, finding.env) for finding in findings(text)}


def test_the_specification_is_refused_with_figures() -> None:
    found = check(derive(load(EXAMPLES / "specification.json")), TODAY)
    prod = {finding.code: finding for finding in found if finding.env == "prod" and finding.severity == "error"}
    assert "5.00 + 2.50 + 11.50 + 2.00 = 21.00 €/1k > target 16.50 €/1k" in prod["estimate_above_target"].message
    assert prod["estimate_above_target"].figures == {
        "total_eur_per_1k": Decimal("21.00"),
        "target_eur_per_1k": Decimal("16.5"),
    }
    assert "costs 0.0210 € > guardrail 0.0200 €" in prod["estimate_above_guardrail"].message
    assert "50 passages, 1200 tokens in, 400 out) costs 0.0255 €" in prod["worst_request_above_guardrail"].message
    listed = prod["list_price_above_target"].message
    assert "15 in / 120 out USD per million tokens: 5.00 + 2.50 + 38.31 + 2.00 = 47.81 €/1k" in listed
    assert "costs 0.0676 €" in prod["list_price_worst_request_above_guardrail"].message
    assert {finding.env for finding in found if finding.code == "estimate_above_target"} == {"staging", "prod"}
    assert not [finding for finding in found if finding.env == "dev"]


def test_errors_come_first() -> None:
    severities = [finding.severity for finding in check(derive(load(EXAMPLES / "specification.json")), TODAY)]
    assert severities == sorted(severities)


def test_the_worst_request_alone_can_refuse() -> None:
    # 20 passages reranked at the specification's caps: row 8 of its own table
    text = (
        FINE
        + '[envs.prod]\nllm = "gpt-5-mini"\ntop_k = 20\nflags = ["rerank"]\nreranker = { model = "rr", base_url = "http://rr" }\n'
    )
    text += "[costs.prices.rr]\nper_1k_calls = 0\n[costs.fx]\nusd_per_eur = 1.1\ndate = 2026-11-01\n"
    (finding,) = findings(text)
    assert finding.code == "worst_request_above_guardrail"
    assert "costs 0.0210 € > guardrail 0.0200 €" in finding.message


def test_exactly_at_the_figures_holds() -> None:
    assert codes(FINE + '[envs.dev]\nllm = "extractive"') == set()
    at_target = FINE.replace("16.5", "4").replace("0.02", "0.004")
    assert codes(at_target + '[envs.dev]\nllm = "extractive"') == set()
    below = FINE.replace("16.5", "3.999999")
    (finding,) = findings(below + '[envs.dev]\nllm = "extractive"')
    assert "= 4.000000 €/1k > target 3.999999 €/1k" in finding.message


@pytest.mark.parametrize("example", ["pilotis.toml", "minimal.toml", "everything.toml"])
def test_the_examples_hold(example: str) -> None:
    assert not [
        finding for finding in check(derive(load(EXAMPLES / example)), dt.date(2026, 10, 1)) if finding.severity == "error"
    ]


def test_the_complete_example_leaves_no_question_open() -> None:
    assert check(derive(load(EXAMPLES / "pilotis.toml")), dt.date(2026, 10, 1)) == ()


def test_figures_that_are_missing() -> None:
    found = {finding.message.split(" ")[0]: finding.severity for finding in findings('[envs.dev]\nllm = "extractive"')}
    assert found == {
        "costs.target_eur_per_1k": "error",
        "costs.guardrail_eur_per_req": "error",
        "costs.month_eur": "warning",
        "slo.p95_ms": "warning",
        "slo.hit_at_5": "warning",
    }


@pytest.mark.parametrize(
    ("slo", "said"),
    [
        ("p95_ms = 120000", "slo.p95_ms = 120000 can never be breached: answers are cut at perf.total_s = 120 s"),
        ("error_rate = 1", "slo.error_rate = 1 can never be breached"),
        ("hit_at_5 = 0", "slo.hit_at_5 = 0 can never be breached"),
        ("cpu = 1.0", "slo.cpu = 1.0 can never be breached"),
        ("ram = 1", "slo.ram = 1 can never be breached"),
    ],
)
def test_objectives_that_can_never_fire(slo: str, said: str) -> None:
    key = slo.partition(" ")[0]
    kept = "\n".join(line for line in FINE.splitlines() if not line.startswith(key))
    errors = [finding for finding in findings(f'{kept}\n{slo}\n[envs.dev]\nllm = "extractive"') if finding.severity == "error"]
    assert len(errors) == 1
    assert said in errors[0].message


def test_an_unknown_price_names_the_nearest_model() -> None:
    (finding,) = [finding for finding in findings(FINE + "[envs.dev]\nllm = 'gpt-5-mni'") if finding.code == "unknown_price"]
    assert (finding.severity, finding.env) == ("error", "dev")
    assert "llm gpt-5-mni at openai" in finding.message
    assert "Did you mean gpt-5-mini?" in finding.remedy
    assert '[costs.prices."gpt-5-mni"]' in finding.remedy


def test_rerankers_named_or_switched_on_alone() -> None:
    assert ("reranker_unnamed", "dev") in codes(FINE + "[envs.dev]\nllm = 'extractive'\nflags = ['rerank']")
    assert ("reranker_off", "dev") in codes(FINE + "[envs.dev]\nllm = 'extractive'\nreranker = 'rerank-v3.5'")


@pytest.mark.parametrize("infra", ['api = "django"', 'vector = "weaviate"'])
def test_what_this_version_does_not_serve_with(infra: str) -> None:
    assert ("not_built", None) in codes(FINE + f'[infra]\n{infra}\n[envs.dev]\nllm = "extractive"')


def test_an_old_rate_is_a_warning_with_its_date() -> None:
    rate = "[costs.fx]\nusd_per_eur = 1.1\ndate = 2026-08-01\nsource = 'treasury'\n[envs.dev]\nllm = 'gpt-5-mini'\n"
    old = [finding for finding in findings(FINE + rate, dt.date(2026, 11, 2)) if finding.code == "fx_old"]
    assert len(old) == 1
    assert old[0].severity == "warning"
    assert "1.1 USD/EUR of 2026-08-01 (treasury), 93 days old" in old[0].message
    assert not [finding for finding in findings(FINE + rate, dt.date(2026, 11, 1)) if finding.code == "fx_old"]


def test_the_rate_does_not_matter_where_nothing_is_paid_in_dollars() -> None:
    assert not [f for f in findings(FINE + '[envs.dev]\nllm = "extractive"', dt.date(2036, 1, 1)) if f.code == "fx_old"]
