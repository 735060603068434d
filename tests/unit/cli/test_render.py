"""What `pilotis render` refuses: a clear error, and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilotis.cli import run

COSTS = "[costs]\ntarget_eur_per_1k = 90\nguardrail_eur_per_req = 0.9\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a--b"\n' + COSTS, "a--b"),
        (f'name = "{"a" * 40}"\n' + COSTS, "aaaa"),
        (COSTS + '[infra]\nregion = "eu-west-33"\n', "eu-west-3"),
        (COSTS + "[deploy]\nstages = [5, 25]\n", "end at 100"),
        (COSTS + "[envs.prod.rates]\nenv = 0\n", "rates"),
    ],
)
def test_a_wrong_contract_writes_nothing(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = tmp_path / "pilotis.toml"
    contract.write_text(text)
    assert run(["--contract", str(contract), "render", "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pilotis.toml"]


def test_a_folder_that_is_a_file_stays_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract, out = tmp_path / "pilotis.toml", tmp_path / "out"
    contract.write_text(COSTS)
    out.write_text("mine")
    assert run(["--contract", str(contract), "render", "-o", str(out)]) != 0
    assert str(out) in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_foreign_file_is_overwritten_by_force_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract, out = tmp_path / "pilotis.toml", tmp_path / "out"
    contract.write_text(COSTS)
    mine = out / "delivery" / "README.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    args = ["--contract", str(contract), "render", "-o", str(out)]
    assert run(args) == 1
    assert "foreign" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert [path for path in out.rglob("*") if path.is_file()] == [mine]
    assert run([*args, "--force"]) == 0
    assert mine.read_text() != "mine"


def test_a_folder_that_cannot_be_written_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the way of its parent: rights would not hold root back, and tests may run as root."""
    contract, parent = tmp_path / "pilotis.toml", tmp_path / "taken"
    contract.write_text(COSTS)
    parent.write_text("mine")
    assert run(["--contract", str(contract), "render", "-o", str(parent / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert parent.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it has no right to")
def test_a_folder_without_rights_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract, out = tmp_path / "pilotis.toml", tmp_path / "out"
    contract.write_text(COSTS)
    out.mkdir(mode=0o555)
    assert run(["--contract", str(contract), "render", "-o", str(out)]) == 2
    assert f"{out} cannot be written" in capsys.readouterr().err
    assert not list(out.iterdir())
