"""`pilotis feedback`: what people said of answers, and the golden questions that come of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session
from pilotis.cli.cost_report import chosen_bu
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps
    from pilotis.ports.quality import Opinion, Vote

SHOWN_CHARACTERS = 60
Since = Annotated[str | None, typer.Option(help="From the start of this period on: today, 7d, 2026-06.", show_default=False)]

app = typer.Typer(help="Votes on answers: who liked what, and golden questions made of it.", no_args_is_help=True)


@app.command("list", epilog="pilotis --bu sales feedback list --vote down --since 7d")
def list_votes(
    ctx: typer.Context,
    vote: Annotated[str | None, typer.Option(help="up or down.", show_default="both")] = None,
    since: Since = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="Votes to show.")] = 50,
) -> None:
    """List votes, latest first, of all business units unless --bu names one."""
    options = output.options(ctx)
    wanted = _vote(vote)
    bu = chosen_bu(ctx, options)

    async def work(deps: Deps, _plan: Plan, env: Env) -> Sequence[Opinion]:
        return await deps.feedback.list(bu=bu, vote=wanted, since=_start(since, env), limit=last)

    found = session.run(options, work)
    if options.json:
        output.print_json([asdict(one) for one in found])
        return
    columns = ("at", "bu", "vote", "answer", "question", "comment", "right passage")
    rows = (
        (f"{one.at:%Y-%m-%d %H:%M}", one.bu, one.vote, one.answer_id, _short(one.question), _short(one.comment), one.document)
        for one in found
    )
    output.table(columns, rows)


@app.command(epilog="pilotis feedback report --since 2026-06")
def report(ctx: typer.Context, since: Since = None) -> None:
    """Count the votes by business unit, with the share of good ones and its interval."""
    options = output.options(ctx)
    bu = chosen_bu(ctx, options)

    async def work(deps: Deps, _plan: Plan, env: Env) -> Mapping[tuple[str, Vote], int]:
        return await deps.feedback.counts(bu=bu, since=_start(since, env))

    rows = summed(session.run(options, work))
    if options.json:
        output.print_json(rows)
        return
    shown = (
        (one["bu"], one["up"], one["down"], f"{one['share']:.1%}", f"{one['low']:.1%} to {one['high']:.1%}") for one in rows
    )
    output.table(("bu", "up", "down", "good", "95 % interval"), shown)
    if not rows:
        output.out().print("no votes yet", style="dim")


@app.command(epilog="pilotis --bu sales feedback golden >> golden.jsonl   then read, mend and accept them")
def golden(ctx: typer.Context, since: Since = None) -> None:
    """Print golden questions made of votes that came with the question and the right passage; all of them drafts."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, env: Env) -> Sequence[str]:
        from pilotis.batch.opinions import candidates

        return candidates(await deps.feedback.list(bu=options.bu, since=_start(since, env), limit=10_000))

    lines = session.run(options, work)
    sys.stdout.write("".join(line + "\n" for line in lines))
    output.note(f'{len(lines)} drafts; read each and set "accepted": true where it is right' if lines else NOTHING)


@app.command(epilog="pilotis --bu sales feedback delete ANSWER-ID")
def delete(ctx: typer.Context, answer: Annotated[str, typer.Argument(help="The id of the answer.")]) -> None:
    """Forget every vote on an answer, with its comments and questions."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        return await deps.feedback.delete(options.bu, answer)

    gone = session.run(options, work)
    if options.json:
        output.print_json({"deleted": gone})
    else:
        output.out().print(f"{gone} votes deleted", markup=False)


NOTHING = "no vote came with its question and the right passage: send 'question' and 'passage_id' along with the vote"


def summed(counts: Mapping[tuple[str, Vote], int]) -> list[dict[str, Any]]:
    """One row a business unit, those with most votes first."""
    from pilotis.rag.statistics import bootstrap

    rows = []
    for unit in dict.fromkeys(unit for unit, _ in counts):
        up, down = counts.get((unit, "up"), 0), counts.get((unit, "down"), 0)
        share = bootstrap([1.0] * up + [0.0] * down)
        rows.append({"bu": unit, "up": up, "down": down, "share": share.value, "low": share.low, "high": share.high})
    return sorted(rows, key=lambda row: (-row["up"] - row["down"], row["bu"]))


def _vote(given: str | None) -> Vote | None:
    if given is None:
        return None
    if given == "up":
        return "up"
    if given == "down":
        return "down"
    raise Invalid(f"--vote {given!r} is neither up nor down", remedy="write --vote down")


def _start(since: str | None, env: Env) -> datetime | None:
    if since is None:
        return None
    from datetime import UTC

    from pilotis.derive.period import between

    return between(None, since, None, zone=env.timezone, now=datetime.now(UTC))[0]


def _short(text: str | None) -> str:
    plain = " ".join((text or "").split())
    return plain if len(plain) <= SHOWN_CHARACTERS else plain[: SHOWN_CHARACTERS - 1] + "…"
