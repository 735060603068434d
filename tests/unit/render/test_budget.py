"""The budget sheet: its formulas, the values stored beside them, and bytes that are the same every time."""

from __future__ import annotations

import csv
import io

import pytest
from openpyxl import load_workbook  # type: ignore[import-untyped,unused-ignore]

from pilotis.contract.presets import default
from pilotis.derive.estimate import estimate_env
from pilotis.derive.plan import derive
from pilotis.render.budget import files
from pilotis.render.files import scene

PLAN = derive(default())
FILES = {file.path: file for file in files(scene(PLAN))}


def test_every_total_is_a_formula_whose_value_is_the_estimate() -> None:
    data = FILES["budget/budget.xlsx"].data
    live, stored = load_workbook(io.BytesIO(data)), load_workbook(io.BytesIO(data), data_only=True)
    for row, env in enumerate(PLAN.envs.values(), 2):
        total = estimate_env(env, PLAN).total_eur_per_1k
        assert total is not None
        assert live["Cost per 1k"].cell(row, 6).value == f"=SUM(B{row}:E{row})"
        assert stored["Cost per 1k"].cell(row, 1).value == env.name
        assert stored["Cost per 1k"].cell(row, 6).value == pytest.approx(float(total), abs=1e-9)


def test_the_specifications_figures_come_out() -> None:
    lines = FILES["budget/budget.csv"].content
    assert isinstance(lines, str)
    totals = {row["env"]: row["total_eur_per_1k"] for row in csv.DictReader(lines.splitlines()[2:])}
    assert totals["staging"] == "18.000000"
    assert totals["prod"] == "21.000000"


def test_the_same_contract_gives_the_same_bytes() -> None:
    assert {file.path: file.data for file in files(scene(PLAN))} == {path: file.data for path, file in FILES.items()}
