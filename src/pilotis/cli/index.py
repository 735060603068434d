"""`pilotis index`: another embedding model or another way to cut passages, built beside the index that is searched, and switched to."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pilotis.batch.generation import Estimate, Tell
    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps, Generation, Standing

app = typer.Typer(
    help="Index generations: another model or other passages, built beside, switched to, and back.", no_args_is_help=True
)

Number = Annotated[int | None, typer.Argument(help="Its number, as `pilotis index status` shows it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command(epilog="pilotis index status --json")
def status(ctx: typer.Context) -> None:
    """Show every generation: its model, its passages, what is left to be built, what failed."""
    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> Sequence[Standing]:
        return await deps.generations.all()

    found = session.run(options, work)
    if options.json:
        output.print_json([asdict(one) for one in found])
        return
    names = ("generation", "state", "model", "dimensions", "tokens a passage", "passages", "left", "failed", "since")
    output.table(names, (_row(one) for one in found))


@app.command(epilog="pilotis index build   after embedder, passage_tokens or passage_overlap were changed in the contract")
def build(
    ctx: typer.Context,
    yes: Yes = False,
    rebuild: Annotated[
        int | None, typer.Option("--generation", help="An older one, brought up to date for the way back.")
    ] = None,
) -> None:
    """Build the index that the contract asks for, beside the one that is searched. May be stopped; the same command goes on.

    Says what it will cost before it begins, and keeps to the budgets while it goes on. Nothing changes for questions until the switch.
    """
    from pilotis import wiring
    from pilotis.adapters.postgres.schema import wanted
    from pilotis.batch import generation as road

    options = output.options(ctx)
    given, _, env = session.load(options)

    async def work(deps: Deps, plan: Plan, _env: Env) -> dict[str, Any]:
        standings = await deps.generations.all()
        chosen = road.find(standings, rebuild, state="retired").generation if rebuild else await road.begin(wanted(env), deps)
        target = wiring.in_force(env, chosen)
        (standing,) = [one for one in await deps.generations.all() if one.generation.id == chosen.id]
        _confirm(chosen, await road.estimate(target, plan, deps, documents=standing.left), yes=yes or options.json)
        embedder = await wiring.open_embedder(target, given, deps.meter)
        try:
            with _progress(standing.left, quiet=options.json) as tell:
                made = road.Target(generation=chosen, env=target, embedder=embedder)
                done, failed = await road.build(made, plan, deps, tell)
            failures = await deps.generations.failures(chosen)
        finally:
            await embedder.close()
        return {
            "generation": chosen.id,
            "documents": done,
            "failed": failed,
            "failures": [(d.name, why) for d, why in failures],
        }

    found = session.run(options, work)
    if options.json:
        output.print_json(found)
        return
    output.out().print(
        f"generation {found['generation']}: {found['documents']} documents built, {found['failed']} failed", markup=False
    )
    if found["failures"]:
        output.table(("document", "why it is not in it"), found["failures"])
    output.note(f"search it with: pilotis index switch {found['generation']}")


@app.command(epilog="pilotis index switch")
def switch(ctx: typer.Context, number: Number = None) -> None:
    """Search a generation that was built: the newest one, or the one of this number. The one before is kept for the way back.

    What changed since it was built is built first. Questions under way are answered from the index they began with.
    """
    _switch(ctx, number, state="building")


@app.command(epilog="pilotis index rollback")
def rollback(ctx: typer.Context, number: Number = None) -> None:
    """Search the generation of before again, once what changed meanwhile is in it."""
    _switch(ctx, number, state="retired")


@app.command(epilog="pilotis index drop 2 --yes")
def drop(ctx: typer.Context, number: Annotated[int, typer.Argument(help="Its number.")], yes: Yes = False) -> None:
    """Remove a generation that is not searched, and free its room. One that was switched from goes by itself after a week."""
    from pilotis.batch import generation as road

    options = output.options(ctx)

    async def work(deps: Deps, _plan: Plan, _env: Env) -> int:
        found = road.find(await deps.generations.all(), number, state="retired")
        if not yes:
            typer.confirm(f"Drop generation {number} with {found.passages:,} passages?", abort=True, err=True)
        await deps.generations.drop(found.generation)
        return found.passages

    passages = session.run(options, work)
    if options.json:
        output.print_json({"dropped": number, "passages": passages})
    else:
        output.out().print(f"generation {number} is gone, with {passages:,} passages", markup=False)


def _switch(ctx: typer.Context, number: int | None, *, state: str) -> None:
    from pilotis import wiring
    from pilotis.batch import generation as road

    options = output.options(ctx)
    given, _, env = session.load(options)

    async def work(deps: Deps, plan: Plan, _env: Env) -> tuple[Generation, Generation]:
        found = road.find(await deps.generations.all(), number, state=state)
        target = wiring.in_force(env, found.generation)
        embedder = await wiring.open_embedder(target, given, deps.meter)
        try:
            with _progress(found.left, quiet=options.json) as tell:
                made = road.Target(generation=found.generation, env=target, embedder=embedder)
                await road.switch(made, plan, deps, tell)
        finally:
            await embedder.close()
        return deps.generation, replace(found.generation, state="active")

    before, now = session.run(options, work)
    if options.json:
        output.print_json({"before": before.id, "now": now.id})
        return
    output.out().print(f"generation {now.id} is searched now; {before.id} is kept for a week", markup=False)
    if (now.model, now.passage_tokens) != (env.embedder.model, env.passage_tokens):
        output.note(
            f"the contract asks for {env.embedder.model} and {env.passage_tokens} tokens: change it to what is searched"
        )


def _confirm(chosen: Generation, expected: Estimate, *, yes: bool) -> None:
    cost = "costs nothing" if expected.cost_eur == 0 and expected.priced else f"costs about {output.euros(expected.cost_eur)}"
    if not expected.priced:
        cost += ", as far as prices are known"
    output.note(
        f"generation {chosen.id}, {chosen.model}: {expected.documents} documents, about {expected.tokens:,} tokens to embed, {cost}"
    )
    if not yes and expected.cost_eur > 0:
        typer.confirm("Build it?", abort=True, err=True)


@contextmanager
def _progress(documents: int, *, quiet: bool) -> Iterator[Tell]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if quiet:
        yield lambda _done, _failed: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.err()) as shown:
        task = shown.add_task("documents", total=documents)

        def tell(done: int, failed: int) -> None:
            shown.update(task, completed=done + failed, description=f"documents ({failed} failed)" if failed else "documents")

        yield tell


def _row(one: Standing) -> tuple[object, ...]:
    made = one.generation
    since = one.retired_at or one.activated_at or one.created_at
    return (
        made.id,
        made.state,
        made.model,
        made.dimension,
        made.passage_tokens,
        one.passages,
        one.left,
        one.failed,
        f"{since:%Y-%m-%d %H:%M}",
    )
