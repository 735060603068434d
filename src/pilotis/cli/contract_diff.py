"""`pilotis contract diff`: what a change of the contract costs, moves and risks, before anybody agrees to it."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pilotis.cli import output
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pilotis.derive.diff import Change, Difference
    from pilotis.derive.finding import Finding
    from pilotis.derive.plan import Plan

EPILOG = (
    "pilotis contract diff old.toml new.toml                  every env that both have\n\n"
    "pilotis contract diff old.toml new.toml --env prod --markdown > comment.md\n\n"
    "pilotis contract diff pilotis.toml --from-env staging --to-env prod   from one env to the other\n\n"
    "pilotis contract diff old.toml new.toml --fail-on high   exits 3 where a risk is high\n\n"
)


def diff(  # noqa: PLR0917 - Typer calls it, by name
    ctx: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="A", help="The contract as it is.")],
    after: Annotated[Path | None, typer.Argument(metavar="[B]", help="As it shall be; A itself when left out.")] = None,
    from_env: Annotated[str | None, typer.Option("--from-env", help="An env of A, to compare with --to-env.")] = None,
    to_env: Annotated[str | None, typer.Option("--to-env", help="An env of B, or of A without B.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown, for a pull request.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show what stays the same, too.")] = False,
    fail_on: Annotated[
        Literal["low", "medium", "high", "never"], typer.Option(help="The gravest risk from which on the exit code is 3.")
    ] = "never",
) -> None:
    """Show what changes in cost, capacity, objectives, approvals, secrets and files, and grade the risk.

    Exit code 0: nothing as risky as `--fail-on`; 1: `contract check` refuses the new contract, or there is nothing to compare; 2: a file is
    wrong; 3: a risk as grave as `--fail-on`, or graver.
    """
    from pilotis.contract.load import load
    from pilotis.derive.check import check
    from pilotis.derive.diff import LEVELS
    from pilotis.derive.diff import diff as difference
    from pilotis.derive.plan import derive

    old, new = derive(load(before)), derive(load(after or before))
    pairs = _moved(from_env, to_env, output.options(ctx).env) or _pairs(output.options(ctx).env, old, new, alone=after is None)
    found = [difference(old, new, env=a, to_env=b) for a, b in pairs]
    files = _files(old, new, [b for _, b in pairs]) if after is not None else ()
    goals = {b for _, b in pairs}
    findings = [
        finding
        for finding in check(new, dt.datetime.now(dt.UTC).date())
        if finding.severity == "error" and (finding.env is None or finding.env in goals)
    ]
    if output.options(ctx).json:
        shown = [asdict(one) | {"level": one.level} for one in found]
        refused = [{"code": finding.code, "env": finding.env, "message": finding.message} for finding in findings]
        output.print_json({"before": old.digest, "after": new.digest, "envs": shown, "files": files, "refused": refused})
    elif markdown:
        typer.echo("\n".join(_markdown(found, files, findings, everything=everything)))
    else:
        _show(found, files, findings, everything=everything)
    if findings:
        raise typer.Exit(1)
    if fail_on != "never" and any(LEVELS.index(one.level) >= LEVELS.index(fail_on) for one in found):
        raise typer.Exit(3)


def _moved(before: str | None, after: str | None, env: str | None) -> list[tuple[str, str]]:
    """From the one named env to the other; empty where none is named. Raises Invalid for half of a pair, or a third env."""
    if before is None and after is None:
        return []
    if before is None or after is None or env is not None:
        raise Invalid(
            "A move from one env to another needs --from-env and --to-env, and no --env.",
            remedy="Name both: --from-env staging --to-env prod.",
        )
    return [(before, after)]


def _pairs(env: str | None, old: Plan, new: Plan, *, alone: bool) -> list[tuple[str, str]]:
    """From which env to which. Raises Invalid where there is nothing to compare."""
    if alone:
        raise Invalid(
            "There is one contract and no two envs: nothing to compare.",
            remedy="Name a second contract, or two envs: --from-env staging --to-env prod.",
        )
    if env:
        return [(env, env)]
    both = [name for name in new.envs if name in old.envs]
    if not both:
        raise Invalid("The two contracts have no env in common.", remedy="Name two: --from-env A --to-env B.")
    return [(name, name) for name in both]


def _files(old: Plan, new: Plan, envs: Sequence[str]) -> tuple[str, ...]:
    """What `pilotis render` would write anew. The digest at the head of each file is no difference."""
    from pilotis.render.render import render

    sides = []
    for plan in (old, new):
        made = {path: file for path, file in render(plan).items() if file.env is None or file.env in envs}
        sides.append({path: file.data.replace(plan.digest.encode(), b"") for path, file in made.items()})
    return tuple(path for path in sorted({*sides[0], *sides[1]}) if sides[0].get(path) != sides[1].get(path))


def _rows(one: Difference, *, everything: bool) -> Iterator[tuple[str, str, str, str, str]]:
    for change in one.changes:
        if everything or change.differs:
            yield change.group, change.what, _cell(change, change.before), _cell(change, change.after), _difference(change)


def _cell(change: Change, value: Decimal | int | str | None) -> str:
    if value is None:
        return "unknown" if "price" in change.what or "as agreed" in change.what else "-"
    if isinstance(value, Decimal):
        places = {"EUR/request": 6, "": None}.get(change.unit, 2)
        text = f"{value:f}" if places is None else f"{value:.{places}f}"
    else:
        text = str(value)
    return f"{text} {change.unit}".rstrip()


def _difference(change: Change) -> str:
    amount = change.difference
    if amount is None or amount == 0:
        return ""
    before = Decimal(change.before or 0)
    share = f" ({amount / before * 100:+.1f} %)" if before else ""
    if not change.unit:
        return f"{amount:+f}{share}"
    return f"{amount:+.{6 if change.unit == 'EUR/request' else 2}f}{share}"


def _show(found: Sequence[Difference], files: Sequence[str], findings: Sequence[Finding], *, everything: bool) -> None:
    console = output.out()
    for one in found:
        title = f"{one.before} → {one.after}, risk: {one.level}"
        rows = list(_rows(one, everything=everything))
        if rows:
            output.table(("", "what", "before", "after", "difference"), rows, title=title)
        else:
            console.print(f"{title}; nothing changes", markup=False)
        for risk in one.risks:
            console.print(f"{risk.level:<8}{risk.message}\n        → {risk.remedy}", markup=False)
        console.print()
    if files:
        console.print(f"{len(files)} rendered files change:\n" + "\n".join(f"  {path}" for path in files), markup=False)
    for finding in findings:
        console.print(f"refused {finding.message}\n        → {finding.remedy}", markup=False)


def _markdown(
    found: Sequence[Difference], files: Sequence[str], findings: Sequence[Finding], *, everything: bool
) -> Iterator[str]:
    yield "## What changes in the contract"
    for one in found:
        yield from ("", f"### {one.before} → {one.after}: risk {one.level}", "")
        rows = list(_rows(one, everything=everything))
        if rows:
            yield from ("| | what | before | after | difference |", "|---|---|--:|--:|--:|")
        for row in rows:
            yield "| " + " | ".join(output.printable(cell).replace("|", "\\|") for cell in row) + " |"
        if not rows:
            yield "Nothing changes."
        if one.risks:
            yield ""
        for risk in one.risks:
            yield f"- **{risk.level}**: {risk.message} {risk.remedy}"
    if files:
        yield from ("", f"<details><summary>{len(files)} rendered files change</summary>", "")
        yield from (f"- `{path}`" for path in files)
        yield from ("", "</details>")
    if findings:
        yield from ("", "### Refused by `pilotis contract check`", "")
        yield from (f"- {finding.message} {finding.remedy}" for finding in findings)
