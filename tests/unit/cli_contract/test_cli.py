from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pilotis.cli import contract, cost
from pilotis.cli.output import Options
from pilotis.contract.load import load
from pilotis.errors import ContractError

if TYPE_CHECKING:
    import typer
    from typer.testing import Result

EXAMPLES = Path(__file__).parents[3] / "examples"
SPECIFICATION = str(EXAMPLES / "specification.json")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No contract of the folder or the environment is picked up by chance."""
    monkeypatch.chdir(tmp_path)
    for name in ("PILOTIS_CONTRACT", "PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def call(app: typer.Typer, *args: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(args), obj=Options(**options))


def document(app: typer.Typer, *args: str, **options: Any) -> Any:
    return json.loads(call(app, *args, json=True, **options).stdout)


def test_check_refuses_the_specification_with_exit_code_1() -> None:
    result = call(contract.app, "check", SPECIFICATION)
    assert result.exit_code == 1
    assert "21.00 €/1k > target 16.50 €/1k" in result.stdout
    assert "specification.json refused: 7 errors" in result.stdout


def test_check_accepts_the_examples() -> None:
    for name in ("pilotis.toml", "minimal.toml"):
        result = call(contract.app, "check", str(EXAMPLES / name))
        assert result.exit_code == 0, result.stdout
        assert "holds" in result.stdout


def test_check_as_json() -> None:
    report = document(contract.app, "check", SPECIFICATION)
    assert report["holds"] is False
    assert Decimal(report["envs"]["prod"]["usual"]["total_eur_per_1k"]) == Decimal(21)
    assert Decimal(report["envs"]["prod"]["worst_allowed"]["eur_per_req"]) == Decimal("0.0255")
    assert "E-" not in json.dumps(report["envs"])
    assert {"severity", "code", "env", "message", "remedy", "figures"} == set(report["findings"][0])


def test_check_without_a_file_checks_the_built_in_contract_and_says_so() -> None:
    result = call(contract.app, "check")
    assert "built-in contract" in result.stderr
    assert "extractive" in result.stdout


def test_check_takes_the_contract_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text((EXAMPLES / "minimal.toml").read_text())
    result = call(contract.app, "check")
    assert result.exit_code == 0
    assert "pilotis.toml holds" in result.stdout


def test_a_wrong_file_is_an_error_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[perf]\nbatch = 3\n")
    result = call(contract.app, "check", "bad.toml")
    assert isinstance(result.exception, ContractError)
    assert "Did you mean batch_emb?" in result.exception.remedy


def test_show_resolves_every_env() -> None:
    shown = document(contract.app, "show", SPECIFICATION)
    assert shown["envs"]["staging"]["llm"]["model"] == "gpt-5-mini"
    assert shown["envs"]["staging"]["rerank"] is True
    assert len(shown["digest"]) == 64
    assert "gpt-5-pro (openai)" in call(contract.app, "show", SPECIFICATION).stdout


@pytest.mark.parametrize(("option", "name"), [([], "x.json"), (["--toml"], "x.toml")])
@pytest.mark.parametrize("example", ["specification.json", "pilotis.toml", "minimal.toml", "everything.toml"])
def test_an_export_loads_as_the_same_contract(tmp_path: Path, option: list[str], name: str, example: str) -> None:
    result = call(contract.app, "export", str(EXAMPLES / example), *option)
    (tmp_path / name).write_text(result.stdout)
    assert load(tmp_path / name) == load(EXAMPLES / example)


def test_the_schema_is_json() -> None:
    assert json.loads(call(contract.app, "schema").stdout)["title"] == "Contract"


def test_the_estimate_of_the_specifications_example() -> None:
    what_if = ("--passages", "20", "--tok-in", "900", "--tok-out", "250", "--reranker")
    found = document(cost.app, "estimate", SPECIFICATION, *what_if, env="prod")["envs"]["prod"]
    assert Decimal(found["estimate"]["total_eur_per_1k"]) == Decimal("16.50")
    parts = [found["estimate"][f"{part}_eur_per_1k"] for part in ("embedding", "reranker", "llm", "infra")]
    assert list(map(Decimal, parts)) == [Decimal("2.00"), Decimal("1.00"), Decimal("11.50"), Decimal("2.00")]
    result = call(cost.app, "estimate", SPECIFICATION, *what_if, env="prod")
    assert "16.50" in result.stdout
    assert "within the target of 16.50 €/1k" in result.stdout


def test_the_estimate_of_its_own_prod_row() -> None:
    found = document(cost.app, "estimate", SPECIFICATION)["envs"]
    assert Decimal(found["prod"]["estimate"]["total_eur_per_1k"]) == Decimal("21.00")
    assert Decimal(found["prod"]["at_list_price"]["llm_eur_per_1k"]) == Decimal("38.309114927")
    assert list(found) == ["dev", "staging", "prod"]


def test_what_if_another_model_or_none() -> None:
    mini = document(cost.app, "estimate", SPECIFICATION, "--llm", "gpt-5-mini", env="prod")["envs"]["prod"]
    assert Decimal(mini["at_list_price"]["llm_eur_per_1k"]) == Decimal("0.638485249")
    none = document(cost.app, "estimate", SPECIFICATION, "--llm", "extractive", "--no-reranker", env="prod")["envs"]["prod"]
    assert Decimal(none["estimate"]["total_eur_per_1k"]) == Decimal(7)
    unknown = document(cost.app, "estimate", SPECIFICATION, "--llm", "nobody-knows", env="prod")["envs"]["prod"]
    assert unknown["at_list_price"]["total_eur_per_1k"] is None
    assert "unknown" in call(cost.app, "estimate", SPECIFICATION, "--llm", "nobody-knows", env="prod").stdout


@pytest.mark.parametrize("args", [("--passages", "0"), ("--tok-in", "-1"), ("--top-k", "many")])
def test_impossible_what_ifs_are_refused(args: tuple[str, str]) -> None:
    assert call(cost.app, "estimate", SPECIFICATION, *args).exit_code == 2


def test_an_env_that_is_not_there() -> None:
    result = call(cost.app, "estimate", SPECIFICATION, env="pord")
    assert isinstance(result.exception, ContractError)
    assert "dev, staging, prod" in result.exception.remedy


@pytest.mark.parametrize(("app", "verb"), [(contract.app, "check"), (contract.app, "export"), (cost.app, "estimate")])
def test_help_teaches_by_examples(app: typer.Typer, verb: str) -> None:
    assert f" {verb} " in call(app, verb, "--help").stdout.split("Usage", 1)[1].split("\n", 1)[1]


def test_export_into_the_file_that_the_shell_has_just_made(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").touch()
    result = call(contract.app, "export", "--toml")
    assert result.exit_code == 0
    assert "# Name of the service." in result.stdout


SPENDING = """
[costs]
target_eur_per_1k = 16.5
guardrail_eur_per_req = 0.02
month_eur = 100
[slo]
p95_ms = 5000
hit_at_5 = 0.8
[envs.prod]
llm = "gpt-5"
flags = []
top_k = 10
fallback = { model = "spare", base_url = "http://spare/v1" }
rates = { env = 20, ip = { per_s = 0.5, burst = 3 } }
budgets = { env = { day_eur = 20 }, planes.batch = { hour_eur = 1 }, bus."R & D" = { month_eur = 300 } }
[costs.prices.spare]
input_per_mtok = 0
output_per_mtok = 0
"""


def test_show_says_who_may_spend_how_much(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text(SPENDING)
    shown = call(contract.app, "show").stdout
    assert "env: 20 €/day, 100 €/month; planes.batch: 1 €/hour; bus.R & D: 300 €/month" in shown
    assert "env: 20/s, 20 at once; ip: 0.5/s, 3 at once" in shown
    assert "spare (http://spare/v1)" in shown
    env = document(contract.app, "show")["envs"]["prod"]
    assert env["budgets"]["bus"] == {"R & D": {"hour_eur": None, "day_eur": None, "month_eur": "300"}}
    assert env["rates"]["ip"] == {"per_s": "0.5", "burst": 3}


def test_notes_do_not_refuse(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text(SPENDING)
    result = call(contract.app, "check")
    assert result.exit_code == 0
    assert "business units may spend 300 € per month together, the env 100 €" in result.stdout
    assert "pilotis.toml holds, 0 warnings, 2 notes" in result.stdout
    assert [finding["severity"] for finding in document(contract.app, "check")["findings"]] == ["info", "info"]


def test_a_budget_that_lets_nothing_in_refuses(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text(SPENDING.replace("day_eur = 20", "day_eur = 0.004"))
    result = call(contract.app, "check")
    assert result.exit_code == 1
    assert "budgets.env allows 0.0040 € per day: none would ever be admitted" in " ".join(result.stdout.split())


def test_the_estimate_says_what_a_budget_holds(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text(SPENDING + "[costs.fx]\nusd_per_eur = 1.25\ndate = 2026-01-01\n")
    assert document(cost.app, "estimate")["envs"]["prod"]["ceiling_eur"] == "0.004400"
    assert "one answer can cost 0.004400 € at its caps" in call(cost.app, "estimate").stdout
    free = document(cost.app, "estimate", "--llm", "extractive")
    assert free["envs"]["prod"]["ceiling_eur"] == "0.000000"
