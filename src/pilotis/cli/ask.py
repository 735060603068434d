"""`pilotis ask`: the answer as it is written, then its sources and its cost."""

from __future__ import annotations

import sys
from contextlib import aclosing
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotis.cli import output, session

if TYPE_CHECKING:
    from pilotis.derive.plan import Env, Plan
    from pilotis.online.answer import Answer
    from pilotis.ports import Deps


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="The question, in a language of the contract; quote it.")],
    collection: Annotated[str | None, typer.Option(help="Ask one collection only.", show_default=False)] = None,
    top_k: Annotated[int | None, typer.Option(help="Passages to retrieve, 1 to 100.", show_default="the env's")] = None,
) -> None:
    """Answer a question from the documents, with its sources and its cost."""
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> Answer:
        return await answer(
            question, deps, plan, env, bu=options.bu, collection=collection, top_k=top_k, stream=not options.json
        )

    answered = session.run(options, work, asks=True)
    if options.json:
        output.print_json(as_json(answered))
    else:
        print_sources(answered)


async def answer(
    question: str,
    deps: Deps,
    plan: Plan,
    env: Env,
    *,
    bu: str,
    collection: str | None = None,
    top_k: int | None = None,
    stream: bool = True,
) -> Answer:
    """Ask; with `stream` write each piece to stdout as it comes."""
    from pilotis.online import answer as road

    asked = road.Ask(bu=bu, text=question, collection=collection, top_k=top_k)
    async with aclosing(road.answer(asked, env, plan, deps)) as events:
        async for event in events:
            if isinstance(event, road.Token) and stream:
                sys.stdout.write(event.text)
                sys.stdout.flush()
            elif isinstance(event, road.Done):
                if stream:
                    sys.stdout.write("\n")
                return event.answer
    raise AssertionError("the road of a question ends with Done or an error")


def print_sources(answered: Answer) -> None:
    """The numbered sources with document, page and offsets, what was put right on the way, then the cost."""
    console = output.out()
    if answered.citations:
        console.print("\nSources", style="bold")
    for citation in answered.citations:
        page = f", page {citation.page}" if citation.page is not None else ""
        console.print(f"  [{citation.n}] {citation.document}{page}, characters {citation.start}-{citation.end}", markup=False)
    for step in answered.steps:
        console.print(f"  {step.name} {step.outcome}: {step.reason}", style="dim", markup=False)
    console.print(cost_line(answered), style="dim", markup=False)


def cost_line(answered: Answer) -> str:
    """What it cost here, and what the same request would have cost in the other envs of the contract."""
    receipt = answered.receipt
    here = f"here {output.euros(receipt.cost_eur)}" + ("" if receipt.priced else " (some prices unknown)")
    others = (f"{env} {_or_unknown(cost)}" for env, cost in receipt.elsewhere_eur.items())
    took = f"{answered.timings_ms['total']:.0f} ms"
    return "\nCost: " + "; ".join((here, *others)) + f"   ({took}, {answered.model})"


def as_json(answered: Answer) -> dict[str, Any]:
    """The answer in the form the API gives it."""
    from dataclasses import asdict

    body = asdict(answered)
    receipt = body.pop("receipt")
    return {"id": body.pop("id"), "answer": body.pop("text"), **body, "usage": receipt.pop("usages"), **receipt}


def _or_unknown(cost: Decimal | None) -> str:
    return "unknown price" if cost is None else output.euros(cost)
