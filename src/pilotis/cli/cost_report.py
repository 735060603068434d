"""`pilotis cost report`: what was spent, by whom, on what; and what it would have been with another model."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session
from pilotis.errors import Invalid, PilotisError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from pilotis.cli.output import Options
    from pilotis.derive.cost import Usage
    from pilotis.derive.plan import Env, Plan
    from pilotis.online.costs import Report, Reprice, Row
    from pilotis.ports import Deps

BAR = 24
"""Characters of the longest bar."""

EPILOG = (
    "pilotis cost report                                   this month, by business unit and model\n\n"
    "pilotis cost report today --by hour                   where the day went\n\n"
    "pilotis cost report 2026-06 --as-if llm=gpt-5-mini    what June would have cost on another model\n\n"
    "pilotis cost report --since 7d --by day,step --csv    for a spreadsheet\n\n"
    "pilotis --bu sales cost report 2026 --by month        one business unit's year\n\n"
)


def report(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    period: Annotated[
        str | None, typer.Argument(metavar="PERIOD", help="today, 7d, 2026-06, 2026-06-15, 2026; this month if left out.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Any of hour, day, month, env, plane, bu, kind, model, key, step, instance.")
    ] = "bu,model",
    since: Annotated[str | None, typer.Option(help="From the start of this period on.", show_default=False)] = None,
    until: Annotated[str | None, typer.Option(help="To the end of this period.", show_default=False)] = None,
    as_if: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=MODEL", help="Price it again with another model.", show_default=False)
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on stdout.")] = False,
) -> None:
    """Sum up what was spent, of all business units unless --bu names one, in the calendar of the contract's time zone."""
    options = output.options(ctx)
    other = _parsed(as_if or [])

    async def work(deps: Deps, plan: Plan, env: Env) -> tuple[Report, Env, str]:
        from datetime import UTC, datetime

        from pilotis.derive.period import between
        from pilotis.online import costs

        starts, ends = between(period, since, until, zone=env.timezone, now=datetime.now(UTC))
        await drained(deps)
        found = await costs.report(
            deps.ledger,
            [name.strip() for name in by.split(",") if name.strip()],
            since=starts,
            until=ends,
            bu=chosen_bu(ctx, options),
            zone=env.timezone,
            reprice=_pricing(plan, other) if other else None,
        )
        return found, env, plan.book.id

    found, env, book = session.run(options, work)
    if as_csv:
        _print_csv(found)
    elif options.json:
        output.print_json(document(found, zone=env.timezone, as_if=other, price_book=book))
    else:
        _print_table(found, env, other, book)


async def drained(deps: Deps) -> None:
    """What is settled and not booked yet is booked first; where that cannot be, the report says that it may be behind."""
    from pilotis.online.booking import book_all

    try:
        await book_all(deps.outbox, deps.ledger)
    except PilotisError as error:
        output.note(f"the latest costs may be missing: {error.message}")


def chosen_bu(ctx: typer.Context, options: Options) -> str | None:
    """The business unit that was asked for; None where `--bu` was left at its default."""
    source = ctx.find_root().get_parameter_source("bu")
    return options.bu if source is not None and source.name == "COMMANDLINE" else None


def document(found: Report, *, zone: str, as_if: Mapping[str, str], price_book: str) -> dict[str, Any]:
    """A report as JSON shows it."""
    return {
        "since": found.since,
        "until": found.until,
        "timezone": zone,
        "bu": found.bu,
        "by": found.by,
        "as_if": dict(as_if) or None,
        "as_if_price_book": price_book if as_if else None,
        "rows": [dict(zip(found.by, row.key, strict=True)) | _figures(row) for row in found.rows],
        "total": _figures(found.total),
    }


def _figures(row: Row) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "requests": row.requests,
        "cost_eur": row.cost_eur,
        "eur_per_1k": row.eur_per_1k.quantize(Decimal("0.000001")),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "estimated": row.estimated,
        "unpriced": row.unpriced,
    }
    if row.as_if_eur is not None:
        figures |= {
            "as_if_eur": row.as_if_eur,
            "difference_eur": row.difference_eur,
            "as_if_unpriced": row.as_if_unpriced,
            "as_booked": row.as_booked,
        }
    return figures


def _parsed(as_if: Sequence[str]) -> dict[str, str]:
    found = {}
    for given in as_if:
        what, _, model = given.partition("=")
        if not what or not model:
            raise Invalid(f"--as-if {given!r} is not of the form WHAT=MODEL", remedy="write --as-if llm=gpt-5-mini")
        found[what] = model
    return found


def _pricing(plan: Plan, other: Mapping[str, str]) -> Reprice:
    from pilotis.derive.cost import reprice

    reprice((), plan, other)  # says at once what is no part of a request

    def priced(calls: tuple[Usage, ...], day: date) -> tuple[Decimal, bool]:
        found = reprice([asdict(call) for call in calls], plan, other, at=day)
        return found.cost_eur, found.priced

    return priced


def _print_csv(found: Report) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*found.by, *_figures(found.total)])
    for row in found.rows:
        figures = (format(value, "f") if isinstance(value, Decimal) else value for value in _figures(row).values())
        writer.writerow([*row.key, *figures])


def _print_table(found: Report, env: Env, other: Mapping[str, str], book: str) -> None:
    changed = bool(other)
    columns = [*found.by, "requests", "€", "€/1k", "tokens in", "out", "estimated", "unpriced"]
    columns += ["€ as if", "difference", ""] if changed else [""]
    most = max((max(row.cost_eur, row.as_if_eur or Decimal(0)) for row in found.rows), default=Decimal(0))
    rows = [[*(part or "-" for part in row.key), *_cells(row, most, changed=changed)] for row in found.rows]
    if len(found.rows) > 1:
        last = _cells(found.total, Decimal(0), changed=changed)
        rows.append([*(["total", *[""] * (len(found.by) - 1)] if found.by else []), *last])
    output.table(columns, rows, title=f"{_span(found, env)}{f', business unit {found.bu}' if found.bu else ''}")
    console = output.out()
    if not found.rows:
        console.print("nothing was spent", style="dim")
    if changed:
        names = ", ".join(f"{what} = {model}" for what, model in other.items())
        console.print(f"as if {names}, at the prices of {book}", markup=False)
        if found.total.as_if_unpriced:
            console.print(
                f"{found.total.as_if_unpriced} requests have no known price there: the figure is too low", style="red"
            )
        if found.total.as_booked:
            console.print(
                f"{found.total.as_booked} requests left no record of their calls and are taken as booked", style="dim"
            )


def _cells(row: Row, most: Decimal, *, changed: bool) -> list[str]:
    cells = [
        f"{row.requests:,}",
        f"{row.cost_eur:,.6f}",
        f"{row.eur_per_1k:,.4f}",
        f"{row.input_tokens:,}",
        f"{row.output_tokens:,}",
        _share(row.estimated, row.requests),
        _share(row.unpriced, row.requests),
    ]
    if changed and row.as_if_eur is not None and row.difference_eur is not None:
        percent = f" ({row.difference_eur / row.cost_eur:+.0%})" if row.cost_eur else ""
        cells += [f"{row.as_if_eur:,.6f}", f"{row.difference_eur:+,.6f}{percent}"]
    elif changed:
        cells += ["", ""]
    return [*cells, bar(row.cost_eur, most)]


def bar(amount: Decimal, most: Decimal) -> str:
    """A bar of up to `BAR` characters, in eighths of one: anything above zero shows."""
    if most <= 0 or amount <= 0:
        return ""
    eighths = max(1, round(amount / most * BAR * 8))
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]).rstrip()


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if part else ""


def _span(found: Report, env: Env) -> str:
    def shown(moment: datetime) -> str:
        from zoneinfo import ZoneInfo

        return f"{moment.astimezone(ZoneInfo(env.timezone)):%Y-%m-%d %H:%M}"

    return f"{shown(found.since)} to {shown(found.until)} ({env.timezone})"
