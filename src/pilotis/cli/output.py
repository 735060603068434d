"""What every verb shares: the global options, two consoles, and how money, tables and JSON are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer
    from rich.console import Console

    from pilotis.wiring import Settings


PIPED_COLUMNS = 200
"""Width where nobody looks: an id in a table stays on one line, for grep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The global options, as given before or after the verb; `ctx.obj` of every command."""

    contract: Path | None = None
    env: str | None = None
    data: Path | None = None
    bu: str = "default"
    json: bool = False
    debug: bool = False


def options(ctx: typer.Context) -> Options:
    """The global options of this call; the defaults where a verb is run on its own, as in a test."""
    found = ctx.find_root().obj
    return found if isinstance(found, Options) else Options()


def settings(given: Options) -> Settings:
    """The options completed by the environment. Raises SetupError for a contract that is named and not there."""
    from pilotis import wiring

    return wiring.settings(contract=given.contract, env=given.env, data=given.data)


def out() -> Console:
    """The console of stdout: results."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)


def err() -> Console:
    """The console of stderr: notes, progress and errors."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def note(message: str) -> None:
    """Say something beside the result, on stderr, so that stdout can be piped."""
    err().print(message, style="dim", markup=False)


def fail(message: str, remedy: str = "") -> None:
    """Show an error and the one thing to do next, on stderr."""
    console = err()
    console.print(message or "failed", style="bold red", markup=False)
    if remedy:
        console.print(f"→ {remedy}", markup=False)


def print_json(document: Any) -> None:
    """One JSON document on stdout. Decimals become strings without exponent, so that no euro is rounded on its way."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=_plain) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table on stdout; cells are never read as markup, and what would break a line or steer the terminal is shown escaped."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    out().print(shown)


def printable(text: str) -> str:
    """One line of it: newlines, escape sequences and other controls made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def euros(amount: Decimal) -> str:
    """Six decimals: what one request costs."""
    return f"{amount:.6f} €"


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
