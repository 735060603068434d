"""A run as one JSON document: what is shown, what is kept in a file as a baseline, and what is read from there again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from pilotis.errors import Invalid, NotFound
from pilotis.ports.quality import Evaluation, Judged, Seen

FORM = 1


def document(evaluation: Evaluation, rows: Sequence[Judged]) -> dict[str, Any]:
    """A run with its questions; amounts are exact strings."""
    return {"form": FORM, "run": asdict(evaluation), "questions": [row_document(row) for row in rows]}


def row_document(row: Judged) -> dict[str, Any]:
    """One judged question; `read_row` reads it again."""
    # A model may write a NUL, which no database takes in a text.
    texts = {"answer": row.answer.replace("\0", ""), "error": row.error and row.error.replace("\0", "")}
    return asdict(row) | texts | {"cost_eur": format(row.cost_eur, "f")}


def read_row(stored: Mapping[str, Any]) -> Judged:
    """See `row_document`. Raises KeyError, TypeError or ArithmeticError for what it did not write."""
    lists = {"tags": tuple(stored["tags"]), "wanted": tuple(stored["wanted"])}
    seen = tuple(Seen(**one) for one in stored["seen"])
    return Judged(**{**stored, **lists, "seen": seen, "cost_eur": Decimal(stored["cost_eur"])})


def read(text: str, *, name: str) -> tuple[Evaluation, list[Judged]]:
    """The run in a file that `--json` wrote. Raises Invalid, which names the file."""
    try:
        found = json.loads(text)
        if found["form"] != FORM:
            raise ValueError(f"its form is {found['form']!r}")
        run = found["run"]
        evaluation = Evaluation(**{**run, "at": datetime.fromisoformat(run["at"])})
        return evaluation, [read_row(row) for row in found["questions"]]
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise Invalid(
            f"{name} holds no run of an evaluation: {error}",
            remedy=f"write one with: pilotis eval show RUN --json > {name}",
            code="invalid_run",
        ) from None


def only(found: Sequence[Evaluation], run: str) -> Evaluation:
    """The one run whose id begins so. Raises NotFound and Invalid."""
    if not found:
        raise NotFound(f"there is no run {run!r}", remedy="see: pilotis eval list")
    if len(found) > 1:
        raise Invalid(f"several runs begin with {run!r}", remedy="write more of the id; see: pilotis eval list")
    return found[0]


def not_done(evaluation: Evaluation) -> Invalid:
    """For a run that cannot be compared with."""
    return Invalid(
        f"run {evaluation.id[:8]} is {evaluation.state}, so it has no figures to compare with",
        remedy="choose one that is done; see: pilotis eval list",
    )
