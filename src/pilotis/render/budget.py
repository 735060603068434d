"""The budget sheet: the contract's estimate as a workbook with live formulas, and its figures as CSV.

Every amount outside the sheet `Assumptions` is a formula; the value that it has now is stored beside it for viewers that do not compute.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from calendar import monthrange
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pilotis.contract.model import EXTRACTIVE
from pilotis.derive.estimate import Quote, estimate_env
from pilotis.render.files import File, Scene

if TYPE_CHECKING:
    from pilotis.derive.site import Site

UNITS = ("tok_in", "tok_out", "embed_eur_per_passage", "rerank_eur_per_passage", "llm_eur_per_token", "infra_eur_per_1k")
PARTS = ("embedding", "reranker", "llm", "infrastructure", "total")
TOP_KS = (5, 10, 20, 30, 50)
TOKENS = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Factors on both token counts."""
HITS = (0.0, 0.1, 0.2, 0.3, 0.5)
"""Shares of questions that the cache answers, at no cost of models; the infrastructure is paid all the same."""
_FIRST = 12
"""Row of the first env on the sheet of assumptions, counted from 1."""


def files(scene: Scene) -> Iterator[File]:
    yield File(path="budget/budget.csv", content=_csv(scene))
    yield File(path="budget/budget.xlsx", content=_workbook(scene))


def _parts(quote: Quote) -> tuple[Decimal, ...]:
    llm = quote.llm_eur_per_1k or Decimal(0)
    parts = (quote.embedding_eur_per_1k, quote.reranker_eur_per_1k, llm, quote.infra_eur_per_1k)
    return (*parts, sum(parts, Decimal(0)))


def _csv(scene: Scene) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("env", "llm", "top_k", *(f"{part}_eur_per_1k" for part in PARTS), "requests_per_day", "month_budget_eur"))
    for name, site in scene.sites.items():
        parts = (f"{part:.6f}" for part in _parts(estimate_env(site.env, scene.plan)))
        budget = site.env.budgets.env.month_eur
        requests = scene.plan.contract.envs[name].requests_per_day
        writer.writerow((name, site.env.llm.model, site.env.top_k, *parts, requests, "" if budget is None else f"{budget:f}"))
    return scene.banner().rstrip("\n") + "\n" + text.getvalue()


def _workbook(scene: Scene) -> bytes:
    from xlsxwriter import Workbook

    target = io.BytesIO()
    book = Workbook(target, {"in_memory": True})
    book.set_properties(
        {
            "title": f"Budget of {scene.plan.contract.name}",
            "comments": " ".join(scene.origin),
            "created": dt.datetime(2000, 1, 1),  # noqa: DTZ001 (a fixed day, so that the bytes are the same; the format has no zone)
        }
    )
    look = {
        "head": book.add_format({"bold": True, "bottom": 1, "text_wrap": True}),
        "input": book.add_format({"bg_color": "#FFF6D6", "num_format": "General"}),
        "eur": book.add_format({"num_format": "#,##0.00"}),
        "bold": book.add_format({"num_format": "#,##0.00", "bold": True}),
    }
    sites = list(scene.sites.values())
    _assumptions(book.add_worksheet("Assumptions"), look, scene, sites)
    totals = _cost(book, look, scene, sites)
    months = _months(book, look, scene, sites, totals)
    _sensitivity(book.add_worksheet("Sensitivity"), look, scene)
    _actuals(book.add_worksheet("Actuals"), look, sites, months)
    book.close()
    return target.getvalue()


def _assumptions(sheet: Any, look: Any, scene: Scene, sites: list[Site]) -> None:
    sheet.set_column(0, 0, 30)
    sheet.set_column(1, 6, 16)
    sheet.write_row(0, 0, ("Assumption", "Value", "Shaded cells may be changed; all else follows."), look["head"])
    for row, unit in enumerate(UNITS, 1):
        sheet.write(row, 0, unit)
        sheet.write_number(row, 1, float(getattr(scene.plan.contract.costs.estimate, unit)), look["input"])
    sheet.write(7, 0, "year")
    sheet.write_number(7, 1, scene.plan.book.date.year, look["input"])
    sheet.write(8, 0, " ".join(scene.origin))
    heads = ("env", "top_k", "reranked (1/0)", "LLM writes (1/0)", "requests a day", "budget of a month, EUR", "LLM")
    sheet.write_row(_FIRST - 2, 0, heads, look["head"])
    for row, site in enumerate(sites, _FIRST - 1):
        env, requests = site.env, scene.plan.contract.envs[site.env.name].requests_per_day
        sheet.write_string(row, 0, env.name)
        for column, value in enumerate(
            (env.top_k, int(env.rerank), int(env.llm.model != EXTRACTIVE), requests, env.budgets.env.month_eur), 1
        ):
            if value is None:
                sheet.write_blank(row, column, None, look["input"])
            else:
                sheet.write_number(row, column, float(value), look["input"])
        sheet.write_string(row, 6, env.llm.model)


def _cost(book: Any, look: Any, scene: Scene, sites: list[Site]) -> list[float]:
    sheet = book.add_worksheet("Cost per 1k")
    sheet.set_column(0, 5, 16)
    sheet.write_row(0, 0, ("env, EUR per 1000 requests", *PARTS), look["head"])
    totals = []
    for index, site in enumerate(sites):
        at, row = _FIRST + index, index + 2
        values = [float(part) for part in _parts(estimate_env(site.env, scene.plan))]
        formulas = (
            f"=Assumptions!$B{at}*Assumptions!$B$4*1000",
            f"=Assumptions!$C{at}*Assumptions!$B{at}*Assumptions!$B$5*1000",
            f"=Assumptions!$D{at}*(Assumptions!$B$2+Assumptions!$B$3)*Assumptions!$B$6*1000",
            "=Assumptions!$B$7",
            f"=SUM(B{row}:E{row})",
        )
        sheet.write_formula(row - 1, 0, f"=Assumptions!$A{at}", None, site.env.name)
        for column, (formula, value) in enumerate(zip(formulas, values, strict=True), 1):
            sheet.write_formula(row - 1, column, formula, look["bold" if column == len(PARTS) else "eur"], value)
        totals.append(values[-1])
    chart = book.add_chart({"type": "column", "subtype": "stacked"})
    last = len(sites)
    for column, part in enumerate(PARTS[:-1], 1):
        chart.add_series(
            {"name": part, "categories": [sheet.name, 1, 0, last, 0], "values": [sheet.name, 1, column, last, column]}
        )
    chart.set_title({"name": "EUR per 1000 requests"})
    sheet.insert_chart(last + 3, 0, chart)
    return totals


def _months(book: Any, look: Any, scene: Scene, sites: list[Site], totals: list[float]) -> list[list[float]]:
    sheet = book.add_worksheet("Months")
    sheet.set_column(0, 1 + len(sites), 14)
    sheet.write_row(0, 0, ("month", "days", *(f"{site.env.name}, EUR" for site in sites)), look["head"])
    year, found = scene.plan.book.date.year, []
    for month in range(1, 13):
        days, row = monthrange(year, month)[1], month
        sheet.write_number(row, 0, month)
        sheet.write_formula(row, 1, f"=DAY(DATE(Assumptions!$B$8,A{row + 1}+1,0))", None, days)
        values = []
        for index, (site, total) in enumerate(zip(sites, totals, strict=True)):
            value = days * (scene.plan.contract.envs[site.env.name].requests_per_day or 0) * total / 1000
            formula = f"=$B{row + 1}*Assumptions!$E${_FIRST + index}*'Cost per 1k'!$F${index + 2}/1000"
            sheet.write_formula(row, 2 + index, formula, look["eur"], value)
            values.append(value)
        found.append(values)
    sheet.write(13, 0, "year", look["head"])
    for index in range(len(sites)):
        letter = _letter(2 + index)
        sheet.write_formula(13, 2 + index, f"=SUM({letter}2:{letter}13)", look["bold"], sum(row[index] for row in found))
    return found


def _sensitivity(sheet: Any, look: Any, scene: Scene) -> None:
    """Of the main env: one assumption changed at a time."""
    at = _FIRST + list(scene.sites).index(scene.main.env.name)
    cost = at - _FIRST + 2
    parts = [float(part) for part in _parts(estimate_env(scene.main.env, scene.plan))]
    k = scene.main.env.top_k
    sheet.set_column(0, 1, 34)
    sheet.write_row(0, 0, (f"{scene.main.env.name}: changed", "EUR per 1000 requests"), look["head"])
    fixed = f"'Cost per 1k'!$E${cost}"
    passages, llm = f"('Cost per 1k'!$B${cost}+'Cost per 1k'!$C${cost})", f"'Cost per 1k'!$D${cost}"
    rows: list[tuple[str, float, str, float]] = [
        *(
            (
                "top_k",
                v,
                f"={passages}/Assumptions!$B${at}*{{}}+{llm}+{fixed}",
                (parts[0] + parts[1]) / k * v + parts[2] + parts[3],
            )
            for v in TOP_KS
        ),
        *(("tokens x", v, f"={passages}+{llm}*{{}}+{fixed}", parts[0] + parts[1] + parts[2] * v + parts[3]) for v in TOKENS),
        *(("cache hit rate", v, f"=({passages}+{llm})*(1-{{}})+{fixed}", sum(parts[:3]) * (1 - v) + parts[3]) for v in HITS),
    ]
    sheet.write(0, 2, "value", look["head"])
    for row, (what, value, formula, result) in enumerate(rows, 1):
        sheet.write_string(row, 0, what)
        sheet.write_number(row, 2, value, look["input"])
        sheet.write_formula(row, 1, formula.format(f"$C{row + 1}"), look["eur"], result)


def _actuals(sheet: Any, look: Any, sites: list[Site], months: list[list[float]]) -> None:
    sheet.set_column(0, 5, 16)
    sheet.write_row(0, 0, ("env", "month", "budget, EUR", "estimate, EUR", "actual, EUR", "left, EUR"), look["head"])
    for index, site in enumerate(sites):
        limit = site.env.budgets.env.month_eur
        for month in range(1, 13):
            row = index * 12 + month
            sheet.write_string(row, 0, site.env.name)
            sheet.write_number(row, 1, month)
            budget = f"Assumptions!$F${_FIRST + index}"
            sheet.write_formula(row, 2, f'=IF({budget}="","",{budget})', look["eur"], "" if limit is None else float(limit))
            sheet.write_formula(row, 3, f"=Months!{_letter(2 + index)}{month + 1}", look["eur"], months[month - 1][index])
            sheet.write_blank(row, 4, None, look["input"])
            sheet.write_formula(row, 5, f'=IF(OR(C{row + 1}="",E{row + 1}=""),"",C{row + 1}-E{row + 1})', look["eur"], "")


def _letter(column: int) -> str:
    from xlsxwriter.utility import xl_col_to_name

    return str(xl_col_to_name(column))
