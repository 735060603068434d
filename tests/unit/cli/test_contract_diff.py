"""`pilotis contract diff`: its exit codes, and what it writes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from pilotis.cli import run

ROOT = Path(__file__).parents[3]
PRIOR = '[costs]\ntarget_eur_per_1k = 90\nguardrail_eur_per_req = 0.9\n[envs.prod]\nllm = "extractive"\n'


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    a.write_text(PRIOR)
    b.write_text(PRIOR)
    return a, b


def test_nothing_changes(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["contract", "diff", *map(str, two)]) == 0
    assert "nothing changes" in capsys.readouterr().out


def test_a_grave_risk_is_3_where_the_caller_says_so(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    two[1].write_text(PRIOR + '[deploy]\napprovals = ["sre"]\n')
    args = ["contract", "diff", *map(str, two), "--markdown"]
    assert run(args) == 0
    assert "| deploy | approvals | business, sre | sre |  |" in capsys.readouterr().out
    assert run([*args, "--fail-on", "high"]) == 3


def test_files_that_render_would_change_are_named(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    two[1].write_text(PRIOR + "[deploy]\nstages = [5, 50, 100]\n")
    assert run(["contract", "diff", *map(str, two), "--env", "prod", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "delivery/workflows/deploy.yml" in report["files"]
    assert "README.md" not in report["files"], "a new digest alone is no change"


def test_a_refused_contract_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / "examples" / "specification.json")
    assert run(["contract", "diff", file, "--from-env", "staging", "--to-env", "prod", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["refused"]
    assert Decimal(report["envs"][0]["changes"][0]["after"]) == 21


def test_one_contract_needs_two_envs(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["contract", "diff", str(two[0])]) == 1
    assert "--from-env staging --to-env prod" in capsys.readouterr().err


def test_a_risk_below_the_level_is_0(two: tuple[Path, Path]) -> None:
    two[1].write_text(PRIOR.replace("= 90", "= 95"))
    args = ["contract", "diff", *map(str, two), "--fail-on"]
    assert [run([*args, level]) for level in ("high", "medium", "low", "never")] == [0, 3, 3, 0]


@pytest.mark.parametrize(
    "given", [("--from-env", "prod"), ("--to-env", "prod"), ("--from-env", "prod", "--to-env", "prod", "--env", "prod")]
)
def test_half_a_move_or_a_third_env_is_refused(
    given: tuple[str, ...], two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["contract", "diff", *map(str, two), *given]) == 1
    assert "--from-env and --to-env" in capsys.readouterr().err
