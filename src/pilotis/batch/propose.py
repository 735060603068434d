"""Golden questions drafted from the index, by the env's model where it has one; what that costs is held and booked as any cost is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from uuid import uuid4

from pilotis.derive.cost import Usage, ceiling, price
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Permanent, Transient
from pilotis.ports import CostEvent, Deps, Generator, Request
from pilotis.ports.quality import Excerpt
from pilotis.rag.draft import Draft, draft_all, prompt, read

log = logging.getLogger(__name__)

SPARE = 3
"""Passages looked at for each draft that is wanted: many say too little, or the same as another."""
REPLY_TOKENS = 200


async def propose(
    env: Env,
    plan: Plan,
    deps: Deps,
    *,
    bu: str,
    collection: str | None,
    limit: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _failed: None,
) -> tuple[list[Draft], Decimal]:
    """At most `limit` drafts, and what they cost. Without a model, or where its reply is none, headings and sentences make them.

    Raises Limited where a budget is spent; Transient or Permanent where the model fails.
    """
    excerpts = await deps.evaluations.excerpts(bu, collection=collection, limit=SPARE * limit, seed=seed)
    writer = deps.generators.get(env.llm.model)
    if writer is None:
        return draft_all(excerpts, limit=limit), Decimal(0)
    found: dict[str, Draft] = {}
    spent, failed = Decimal(0), 0
    for excerpt in excerpts:
        if len(found) == limit:
            break
        reply, cost_eur = await _ask(excerpt, writer, env, plan, deps, bu=bu)
        spent += cost_eur
        question = read(reply, excerpt)
        if question is None:
            failed += 1
        else:
            found.setdefault(question.text.casefold(), (question, f"written by {writer.model}"))
        progress(len(found), failed)
    return list(found.values()), spent


async def _ask(excerpt: Excerpt, writer: Generator, env: Env, plan: Plan, deps: Deps, *, bu: str) -> tuple[str, Decimal]:
    """One reply, held for before and settled after, also where the model breaks off."""
    most = ceiling(env, plan).micro  # an answer's: this prompt is shorter than the longest of those, and so is its reply
    admitted = await deps.admission.admit(Request(id=str(uuid4()), plane="batch", bu=bu, kind="eval", ceilings=(most,)))
    asked, text = prompt(excerpt), ""
    usage = Usage(model=writer.model, provider=writer.provider, input_tokens=asked.tokens, estimated=True)
    if writer.provider != "local":
        deps.admission.begin(admitted.hold)
    try:
        stream = writer.generate(asked, max_tokens=min(REPLY_TOKENS, env.tok_out_max))
        async for piece in stream:
            if isinstance(piece, Usage):
                usage = piece
            else:
                text += piece
    finally:
        day = admitted.hold.at.date()
        priced = price(usage, plan.book, plan.fx, at=day, on_unknown=env.on_unknown_price)
        event = CostEvent(
            id=admitted.hold.id,
            at=admitted.hold.at,
            env=env.name,
            plane="batch",
            bu=bu,
            kind="eval",
            subject=excerpt.passage_id,
            model=usage.model,
            usage={"calls": [asdict(usage)]},
            cost_eur=priced.cost_eur,
            price_book=priced.price_book,
            fx=priced.fx,
            priced=priced.priced,
            estimated=usage.estimated,
            instance=deps.instance,
        )
        try:
            await deps.admission.settle(admitted.hold, event)
        except Transient as error:
            log.warning("a draft's cost is booked in the ledger directly: %s", error.message)
            await deps.ledger.append(event)
    if not text:
        raise Permanent(f"{writer.model} wrote nothing", remedy="try again, or draft without it: --set llm=extractive")
    return text, priced.cost_eur
