"""`pilotis eval propose`: golden questions drafted from the documents, for a person to accept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotis.cli import output, session
from pilotis.errors import NotFound, SetupError

if TYPE_CHECKING:
    from decimal import Decimal

    from pilotis.derive.plan import Env, Plan
    from pilotis.ports import Deps
    from pilotis.rag.draft import Draft


def propose(
    ctx: typer.Context,
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=2000, help="Questions to draft.")] = 50,
    collection: Annotated[str | None, typer.Option(help="Of one collection only.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Add them to this file.", show_default="stdout")] = None,
    seed: Annotated[int, typer.Option(help="Another number draws other passages.")] = 0,
) -> None:
    """Draft golden questions from the documents: by the env's model where it has one, else from headings and sentences.

    A draft counts in no evaluation before a person has read it and added "accepted": true.
    """
    options = output.options(ctx)

    async def work(deps: Deps, plan: Plan, env: Env) -> tuple[list[Draft], Decimal]:
        from pilotis.batch.propose import propose as proposed

        return await proposed(env, plan, deps, bu=options.bu, collection=collection, limit=number, seed=seed)

    known = _known(out)
    drafts, cost_eur = session.run(options, work, asks=True)
    if not drafts:
        raise NotFound("no passage says enough to ask about", remedy="ingest documents first: pilotis ingest PATH")
    fresh = [(question, note) for question, note in drafts if question.text not in known]
    _write(fresh, out)
    where = f" to {out}" if out else ""
    there = f", {len(drafts) - len(fresh)} were there already" if len(fresh) < len(drafts) else ""
    output.note(f"{len(fresh)} drafts{where}{there}, {output.euros(cost_eur)}")
    output.note('read each, mend its question, passages and answers, and set "accepted": true; nothing else counts')


def _write(drafts: list[Draft], out: Path | None) -> None:
    from pilotis.rag.golden import line_of

    text = "".join(line_of(question, draft=True, note=note) + "\n" for question, note in drafts)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        with out.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SetupError(
            f"{out} cannot be written: {error.strerror}", remedy="name a file in a folder you may write to"
        ) from error


def _known(out: Path | None) -> set[str]:
    """The questions that a file has already, whoever wrote them."""
    import json

    if out is None or not out.exists():
        return set()
    try:
        return {json.loads(line)["question"] for line in out.read_text(encoding="utf-8-sig").splitlines() if line.strip()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{out} is no golden set: {error}", remedy="name another file, or a new one") from None
