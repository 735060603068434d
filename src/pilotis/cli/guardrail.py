"""`pilotis guardrail`: which step of the ladder serves whom, why, and a person's own decision about it."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps, GuardState

app = typer.Typer(help="The guardrail on the cost of an answer: where it stands, and by hand.", no_args_is_help=True)

Everybody = Annotated[bool, typer.Option("--all", help="The whole service instead of one business unit.")]


@app.command(epilog="pilotis guardrail status --json")
def status(ctx: typer.Context, last: Annotated[int, typer.Option(min=1, max=1000, help="Moves to show.")] = 10) -> None:
    """Show the step of the service and of each business unit, what answers cost there, and the last moves."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, env: Env) -> dict[str, Any]:
        from pilotis.control import guardrail

        by = guardrail.rule(env)
        states = await deps.guards.states()
        now = datetime.now(UTC)
        evidence = await deps.guards.evidence(now - by.window, states) if by else {}
        return _document(env, states, evidence, await deps.guards.history(limit=last))

    found = session.run(options, work)
    if options.json:
        output.print_json(found)
    else:
        _show(found)


@app.command(epilog="pilotis --bu sales guardrail reset")
def reset(ctx: typer.Context, everybody: Everybody = False) -> None:
    """Go back to the full service, for one business unit (--bu) or for all. It may be tripped again by the next answers."""
    _put(ctx, "full", everybody=everybody, reason="reset by hand")


@app.command("set", epilog="pilotis guardrail set cache_only --all")
def set_step(
    ctx: typer.Context,
    step: Annotated[str, typer.Argument(help="A step by its name, such as compact_model, or by its number.")],
    everybody: Everybody = False,
) -> None:
    """Serve one business unit (--bu), or all, at this step from now on; the guardrail goes on from there."""
    _put(ctx, step, everybody=everybody, reason="set by hand")


def _put(ctx: typer.Context, step: str, *, everybody: bool, reason: str) -> None:
    options = output.options(ctx)
    scope = "env" if everybody else f"bu:{options.bu}"

    async def work(deps: Deps, _plan: Plan, env: Env) -> tuple[GuardState, str]:
        from pilotis.control import guardrail

        level, name = _level(env, step)
        now = datetime.now(UTC)
        return await guardrail.put(deps.guards, scope, level, actor=getpass.getuser(), reason=reason, now=now), name

    state, name = session.run(options, work)
    if options.json:
        output.print_json({"scope": state.scope, "level": state.level, "step": name})
    else:
        output.out().print(f"{state.scope}: step {state.level}, {name}", markup=False)


def _level(env: Env, step: str) -> tuple[int, str]:
    from pilotis.derive.ladder import rungs

    names = [rung.step for rung in rungs(env)]
    if step.isdecimal() and int(step) < len(names):
        return int(step), names[int(step)]
    if step in names:
        return names.index(step), step
    raise Invalid(f"the ladder of env {env.name!r} has no step {step!r}", remedy=f"name one of: {', '.join(names)}")


def _document(
    env: Env, states: Sequence[GuardState], evidence: Mapping[str, Any], moves: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    from pilotis.derive.ladder import rungs

    names = [rung.step for rung in rungs(env)]
    known = {state.scope: state for state in states}
    scopes = []
    for scope in dict.fromkeys(["env", *known, *evidence]):
        state, seen = known.get(scope), evidence.get(scope)
        level = min(state.level, len(names) - 1) if state else 0
        mean = seen.cost_eur / seen.answers if seen and seen.answers else None
        scopes.append(
            {
                "scope": scope,
                "level": level,
                "step": names[level],
                "since": state.since if state else None,
                "reason": state.reason if state else "",
                "answers": seen.answers if seen else 0,
                "mean_eur": mean,
            }
        )
    return {
        "env": env.name,
        "threshold_eur": env.guardrail_eur_per_req,
        "window_s": env.guardrail_window_s,
        "min_sample": env.guardrail_min_sample,
        "ladder": names,
        "scopes": scopes,
        "moves": [dict(move) for move in moves],
    }


def _show(found: dict[str, Any]) -> None:
    console = output.out()
    threshold = found["threshold_eur"]
    if threshold is None:
        console.print("the contract has no guardrail: write costs.guardrail_eur_per_req", markup=False)
        return
    output.table(
        ("scope", "step", "since", "answers", "mean", "why"),
        [
            (
                one["scope"],
                f"{one['level']} {one['step']}",
                f"{one['since']:%Y-%m-%d %H:%M}" if one["since"] else "",
                str(one["answers"]),
                "" if one["mean_eur"] is None else output.euros(one["mean_eur"]),
                one["reason"],
            )
            for one in found["scopes"]
        ],
        title=f"{found['env']}: at most {output.euros(threshold)} an answer over {found['window_s']} s",
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
    console.print("the ladder: " + " > ".join(found["ladder"]), style="dim", markup=False)
