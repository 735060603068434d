"""`pilotis search`: the passages, without an answer."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from pilotis.derive.plan import Env, Plan
    from pilotis.online.search import Results
    from pilotis.ports import Deps

SHOWN_CHARACTERS = 240


def search(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="What to look for; quote it.")],
    collection: Annotated[str | None, typer.Option(help="Search one collection only.", show_default=False)] = None,
    top_k: Annotated[int | None, typer.Option(help="Passages to show, 1 to 100.", show_default="the env's")] = None,
) -> None:
    """Find passages, best first."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> Results:
        from pilotis.online.ask import Ask
        from pilotis.online.search import search as find

        return await find(Ask(bu=options.bu, text=question, collection=collection, top_k=top_k), env, plan, deps)

    results = session.run(options, work, asks=True)
    if options.json:
        from dataclasses import asdict

        output.print_json(asdict(results))
        return
    console = output.out()
    for n, hit in enumerate(results.hits, 1):
        page = f", page {hit.page}" if hit.page is not None else ""
        place = " › ".join(hit.headings)
        console.print(f"[{n}] {hit.document}{page}, characters {hit.start}-{hit.end}", style="bold", markup=False)
        console.print(
            f"    score {hit.score:.3f} (dense {hit.dense:.3f}, lexical {hit.lexical:.2f})  {place}", style="dim", markup=False
        )
        shown = textwrap.shorten(hit.text, SHOWN_CHARACTERS, placeholder=" …")
        console.print(textwrap.indent(shown, "    "), markup=False)
    console.print(f"\n{len(results.hits)} passages in {results.timings_ms['total']:.0f} ms", style="dim")
