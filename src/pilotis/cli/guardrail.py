"""`pilotis guardrail`: which step of the ladder serves whom, why, and a person's own decision about it."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps

app = typer.Typer(help="The guardrail on the cost of an answer: where it stands, and by hand.", no_args_is_help=True)

Everybody = Annotated[bool, typer.Option("--all", help="The whole service instead of one business unit.")]


@app.command(epilog="pilotis guardrail status --json")
def status(ctx: typer.Context, last: Annotated[int, typer.Option(min=1, max=1000, help="Moves to show.")] = 10) -> None:
    """Show the step of the service and of each business unit, what answers cost there, and the last moves."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, env: Env) -> Mapping[str, Any]:
        from pilotis.control import guardrail

        return await guardrail.standing(deps.guards, env, now=datetime.now(UTC), last=last)

    found = session.run(options, work)
    if options.json:
        output.print_json(found)
    else:
        _show(found)


@app.command(epilog="pilotis --bu sales guardrail reset")
def reset(ctx: typer.Context, everybody: Everybody = False) -> None:
    """Bring the full service back, to one business unit (--bu) or to the service and all of them. It may be tripped again."""
    _put(ctx, None, everybody=everybody)


@app.command("set", epilog="pilotis guardrail set cache_only --all")
def set_step(
    ctx: typer.Context,
    step: Annotated[str, typer.Argument(help="A step by its name, such as compact_model, or by its number.")],
    everybody: Everybody = False,
) -> None:
    """Serve one business unit (--bu), or the whole service, at this step; from there it recovers as if it had been tripped."""
    _put(ctx, step, everybody=everybody)


def _put(ctx: typer.Context, step: str | None, *, everybody: bool) -> None:
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, env: Env) -> dict[str, Any]:
        from pilotis.control import guardrail

        actor, now = getpass.getuser(), datetime.now(UTC)
        if step is None and everybody:
            moved = await guardrail.reset(deps.guards, actor=actor, now=now)
        else:
            scope, level = "env" if everybody else f"bu:{options.bu}", guardrail.step_of(env, step or "full")
            reason = f"{'reset' if step is None else 'set'} by hand"
            moved = [await guardrail.put(deps.guards, scope, level, actor=actor, reason=reason, now=now)]
        found = await guardrail.standing(deps.guards, env, now=now, last=1)
        scopes = {state.scope for state in moved}
        return {"moved": [row for row in found["scopes"] if row["scope"] in scopes]}

    found = session.run(options, work)
    if options.json:
        output.print_json(found)
        return
    for row in found["moved"]:
        served = "" if row["step"] == row["in_force"] else f"; served at {row['in_force']}, where the whole service stands"
        until = f", until {row['recovers_at']:%Y-%m-%d %H:%M:%S} at least" if row["recovers_at"] else ""
        output.out().print(f"{row['scope']}: step {row['level']}, {row['step']}{until}{served}", markup=False)
    if not found["moved"]:
        output.out().print("everybody has the full service already", markup=False)


def _show(found: Mapping[str, Any]) -> None:
    threshold = found["threshold_eur"]
    agreed = "no guardrail: write costs.guardrail_eur_per_req"
    if threshold is not None:
        agreed = f"at most {output.euros(threshold)} an answer over {found['window_s']} s, judged by {found['min_sample']}"
    output.table(
        ("scope", "step", "since", "answers", "mean", "next step down", "why"),
        [
            (
                one["scope"],
                f"{one['level']} {one['step']}",
                f"{one['since']:%Y-%m-%d %H:%M}" if one["since"] else "",
                str(one["answers"]),
                "" if one["mean_eur"] is None else output.euros(one["mean_eur"]),
                f"{one['recovers_at']:from %H:%M:%S}" if one["recovers_at"] else "",
                one["reason"],
            )
            for one in found["scopes"]
        ],
        title=f"{found['env']}: {agreed}",
    )
    if found["moves"]:
        output.table(
            ("at", "scope", "from", "to", "by", "why"),
            [
                (
                    f"{move['at']:%Y-%m-%d %H:%M:%S}",
                    move["scope"],
                    str(move["from_level"] or 0),
                    str(move["to_level"]),
                    move["actor"],
                    move["reason"],
                )
                for move in found["moves"]
            ],
            title="last moves",
        )
    output.out().print("the ladder: " + " > ".join(found["ladder"]), style="dim", markup=False)
