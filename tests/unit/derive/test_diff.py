"""What changes between two contracts, with exact figures, and how risky each change is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pilotis.contract.load import load, parse
from pilotis.derive.diff import Difference, diff, monthly, reembedding_eur
from pilotis.derive.plan import Plan, derive
from pilotis.errors import ContractError

ROOT = Path(__file__).parents[3]
PRIOR = """
[costs]
target_eur_per_1k = 16.5
guardrail_eur_per_req = 0.02
[envs.prod]
llm = "gpt-5-mini"
requests_per_day = 1000
"""


def plan(text: str = PRIOR) -> Plan:
    return derive(parse(text, Path("pilotis.toml")))


def row(found: Difference, group: str, what: str) -> tuple[object, object]:
    return next((change.before, change.after) for change in found.changes if (change.group, change.what) == (group, what))


def test_the_specifications_move_from_staging_to_prod_has_its_real_price() -> None:
    specification = derive(load(ROOT / "examples" / "specification.json"))
    found = diff(specification, specification, env="staging", to_env="prod")
    assert row(found, "cost", "usual, as agreed") == (Decimal(18), Decimal(21))
    before, after = row(found, "cost", "usual, at list price")
    assert (f"{before:.2f}", f"{after:.2f}") == ("7.14", "47.81")
    assert row(found, "capacity", "API pods") == (2, 4)
    assert found.level == "high"
    assert {risk.code for risk in found.risks} == {"cost", "estimate", "llm"}


def test_the_same_contract_changes_nothing() -> None:
    found = diff(plan(), plan(), env="prod")
    assert not [change for change in found.changes if change.differs]
    assert (found.risks, found.level) == ((), "none")


def test_a_month_is_thirty_days_of_usual_ones() -> None:
    assert monthly(Decimal(21), 1000) == Decimal(630)
    assert monthly(None, 1000) is None
    assert monthly(Decimal(21), None) is None


def test_embedding_anew_has_its_price() -> None:
    cloud = plan(
        PRIOR
        + 'embedder = "text-embedding-3-small"\n[costs.prices."text-embedding-3-small"]\ninput_per_mtok = 2\noutput_per_mtok = 0\ncurrency = "EUR"'
    )
    assert reembedding_eur(cloud, cloud.env("prod").embedder, 200, 100_000) == Decimal(40)
    assert reembedding_eur(plan(), plan().env("prod").embedder, 200, 100_000) == 0
    found = diff(plan(), cloud, env="prod")
    assert next(risk.message for risk in found.risks if risk.code == "embedding").endswith("40.00 EUR.")


@pytest.mark.parametrize(
    ("changed", "code", "level"),
    [
        (PRIOR.replace("0.02", "0.03"), "guardrail", "medium"),
        (PRIOR.replace("16.5", "20"), "target", "medium"),
        (PRIOR.replace("guardrail_eur_per_req = 0.02", ""), "guardrail", "medium"),
        (PRIOR + '[deploy]\napprovals = ["sre"]', "approval_removed", "high"),
        (PRIOR + '[deploy]\nrollback_on = "never"', "rollback", "high"),
        (PRIOR + "[deploy]\nstages = [50, 100]", "stages", "medium"),
        (PRIOR + "[slo]\nerror_rate = 0.02", "slo", "medium"),
        (PRIOR + '[infra]\nvector = "opensearch"', "vector_store", "high"),
        (PRIOR + '[infra]\nregion = "eu-west-1"', "region", "high"),
        (PRIOR + "[perf]\npassage_tokens = 300", "embedding", "high"),
        (PRIOR.replace("gpt-5-mini", "of-nobody"), "price_unknown", "high"),
        (PRIOR.replace("gpt-5-mini", "gpt-5-pro"), "cost", "high"),
        (PRIOR.replace('"gpt-5-mini"', '"claude-sonnet-4-5"'), "secrets", "low"),
    ],
)
def test_each_risk_is_graded_and_its_opposite_is_none(changed: str, code: str, level: str) -> None:
    found = {risk.code: risk.level for risk in diff(plan(), plan(changed), env="prod").risks}
    assert found.get(code) == level


@pytest.mark.parametrize("code", ["guardrail", "target"])
def test_a_stricter_limit_is_no_risk(code: str) -> None:
    dearer = plan(PRIOR.replace("0.02", "0.03").replace("16.5", "20"))
    assert code not in {risk.code for risk in diff(dearer, plan(), env="prod").risks}


def test_an_env_that_is_not_there_is_named() -> None:
    with pytest.raises(ContractError, match="nowhere"):
        diff(plan(), plan(), env="prod", to_env="nowhere")
