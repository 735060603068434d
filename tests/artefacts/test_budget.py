"""LibreOffice computes the budget sheet anew: what its formulas give is what the contract's estimate says, to the cent."""

from __future__ import annotations

import csv
import re
import subprocess
import zipfile
from calendar import monthrange
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from openpyxl import load_workbook  # type: ignore[import-untyped,unused-ignore]

from pilotis.contract import load
from pilotis.derive.estimate import estimate_env
from pilotis.derive.plan import Plan, derive

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTRACTS = [None, EXAMPLES / "pilotis.toml", EXAMPLES / "minimal.toml"]
LIMIT_S = 110
PARTS = ("embedding", "reranker", "llm", "infrastructure", "total")
ALWAYS = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>
"""
"""As it comes, LibreOffice trusts the values that a sheet has stored: 0 tells it to compute."""

pytestmark = pytest.mark.timeout(180)

Sheets = dict[str, dict[str, object]]
"""Values by sheet and cell, as `A1`."""


@pytest.fixture(scope="session")
def computed(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Sheets]:
    """A workbook's values as LibreOffice computes them; the ones stored in it are taken out before."""
    soffice = tool("soffice")
    profile = tmp_path_factory.mktemp("profile")
    (profile / "user").mkdir()
    (profile / "user" / "registrymodifications.xcu").write_text(ALWAYS, encoding="utf-8")

    def compute(book: Path) -> Sheets:
        folder = tmp_path_factory.mktemp("computed")
        given = folder / "given.xlsx"
        emptied(book, given)
        command = [soffice, f"-env:UserInstallation={profile.as_uri()}", "--headless", "--norestore"]
        command += ["--convert-to", "xlsx", "--outdir", str(folder / "out"), str(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        found = folder / "out" / given.name
        if not found.is_file() and "source file could not be loaded" in done.stderr:
            pytest.skip("soffice is there without its spreadsheet: apt-get install libreoffice-calc")
        assert found.is_file(), done.stdout + done.stderr
        return values(found)

    return compute


def emptied(book: Path, target: Path) -> None:
    """The same workbook without the values of its formulas."""
    with zipfile.ZipFile(book) as read, zipfile.ZipFile(target, "w") as write:
        for name in read.namelist():
            data = read.read(name)
            if name.startswith("xl/worksheets/sheet"):
                data = re.sub(rb"(</f>)<v>[^<]*</v>", rb"\1", data)
            write.writestr(name, data)


def values(book: Path) -> Sheets:
    sheets = load_workbook(book, data_only=True)
    return {sheet.title: {cell.coordinate: cell.value for row in sheet for cell in row} for sheet in sheets}


def formulas(book: Path) -> dict[tuple[str, str], str]:
    return {
        (sheet.title, cell.coordinate): cell.value
        for sheet in load_workbook(book)
        for row in sheet
        for cell in row
        if cell.data_type == "f"
    }


def cents(value: object) -> Decimal:
    """To the cent; what binary fractions leave behind the ninth decimal is gone before."""
    return Decimal(f"{value:.9f}").quantize(Decimal("0.01"), ROUND_HALF_UP)


def derived(contract: Path | None) -> Plan:
    return derive(load.load(contract) if contract else load.default())


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_every_formula_gives_what_is_stored_beside_it(
    contract: Path | None, rendered: Callable[[Path | None], Path], computed: Callable[[Path], Sheets]
) -> None:
    book = rendered(contract) / "budget" / "budget.xlsx"
    found, stored, live = computed(book), values(book), formulas(book)
    assert len(live) > 50
    for (sheet, cell), formula in live.items():
        one, other = found[sheet][cell], stored[sheet][cell]
        if isinstance(one, int | float):
            assert cents(one) == cents(other), (sheet, cell, formula)
        else:
            assert (one or "") == (other or ""), (sheet, cell, formula)


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_it_computes_the_contracts_estimate_and_the_csv_says_the_same(
    contract: Path | None, rendered: Callable[[Path | None], Path], computed: Callable[[Path], Sheets]
) -> None:
    folder, plan = rendered(contract) / "budget", derived(contract)
    found = computed(folder / "budget.xlsx")
    lines = [line for line in (folder / "budget.csv").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = {row["env"]: row for row in csv.DictReader(lines)}
    assert list(rows) == list(plan.envs)
    for row, (name, env) in enumerate(plan.envs.items(), 2):
        assert found["Cost per 1k"][f"A{row}"] == name
        for letter, part in zip("BCDEF", PARTS, strict=True):
            assert cents(found["Cost per 1k"][f"{letter}{row}"]) == cents(Decimal(rows[name][f"{part}_eur_per_1k"])), (
                name,
                part,
            )
        total = estimate_env(env, plan).total_eur_per_1k
        assert total is not None
        assert cents(found["Cost per 1k"][f"F{row}"]) == cents(total)
        a_day = total * (plan.contract.envs[name].requests_per_day or 0) / 1000
        for month in range(1, 13):
            of_month = found["Months"][f"{chr(ord('A') + row)}{month + 1}"]
            assert cents(of_month) == cents(a_day * monthrange(plan.book.date.year, month)[1]), (name, month)


def test_a_changed_assumption_changes_what_follows(
    rendered: Callable[[Path | None], Path], computed: Callable[[Path], Sheets], tmp_path: Path
) -> None:
    contract = EXAMPLES / "pilotis.toml"
    book = rendered(contract) / "budget" / "budget.xlsx"
    changed = load_workbook(book)
    changed["Assumptions"]["B7"] = changed["Assumptions"]["B7"].value + 5
    changed.save(tmp_path / "changed.xlsx")
    before, after = computed(book), computed(tmp_path / "changed.xlsx")
    for row in range(2, 2 + len(derived(contract).envs)):
        assert cents(after["Cost per 1k"][f"F{row}"]) == cents(before["Cost per 1k"][f"F{row}"]) + 5
