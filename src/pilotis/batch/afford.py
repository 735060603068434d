"""What embedding costs: held before it is spent, booked for each document, and where a budget is used up the queue rests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from pilotis.derive.budget import micro_up
from pilotis.derive.cost import Usage, price, unpriced
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Limited, SetupError, Transient
from pilotis.ports import EVERYBODY, CostEvent, Deps, Hold, Pending, Request

log = logging.getLogger(__name__)

HELD_S = 300.0
"""How long one batch may take, its provider's slowness included."""
LONGEST_REST_S = 600.0
"""After that a spent budget is asked again, though its window has not ended: somebody may have raised it."""
BYTES_PER_TOKEN = 3
"""A provider's tokenizer may cut finer than ours: what is held covers a token for every three bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one document has in a batch, and the money that is held for it; None where it costs nothing or nobody counts."""

    passages: Sequence[Pending]
    tokens: Sequence[int]
    hold: Hold | None


async def afford(waiting: Sequence[Pending], plan: Plan, env: Env, deps: Deps, *, rests: bool = True) -> list[Share]:
    """Hold what the batch can cost, document by document. Where a budget says no, its passages are given back and the queue rests.

    Without `rests` they are left out of the shares, and no queue is touched.

    Raises SetupError for a model without a price, where the contract says not to guess; Transient where budgets cannot be kept.
    """
    if missing := unpriced(env, plan, kind="search"):
        raise SetupError(
            f"no price is known for {missing[0]}, and without one no budget can be kept",
            remedy=f'write [costs.prices."{missing[0]}"] into the contract, or costs.on_unknown_price = "serve"',
        )
    shares = []
    resting: dict[str, str] = {}
    for passages in by_document(waiting).values():
        bu = passages[0].bu
        if reason := resting.get(EVERYBODY) or resting.get(bu):
            if rests:
                await deps.documents.postpone(passages, reason)
            continue
        tokens = [deps.embedder.count_tokens(passage.text) for passage in passages]
        try:
            hold = await _hold(passages, tokens, plan, env, deps)
        except Limited as error:
            resting[_resting(error, bu)] = reason = f"{error.message}; it goes on by itself"
            if not rests:
                continue
            await _rest(error, bu, reason, deps)
            await deps.documents.postpone(passages, reason)
        else:
            shares.append(Share(passages=passages, tokens=tokens, hold=hold))
    return shares


async def book(share: Share, embedded: set[str], plan: Plan, env: Env, deps: Deps) -> None:
    """Settle a share: what of its passages was embedded is paid, the rest of what was held is free again."""
    pairs = zip(share.passages, share.tokens, strict=True)
    tokens = sum(count for passage, count in pairs if passage.passage_id in embedded)
    event, is_priced = _event(share, tokens, plan, env, deps)
    if share.hold is None:
        await deps.ledger.append(event)
    else:
        try:
            await deps.admission.settle(share.hold, event)
        except Transient as error:
            log.warning("what document %s cost is booked in the ledger directly: %s", event.subject, error.message)
            await deps.ledger.append(event)
    deps.meter.count("rag_cost_eur_total", float(event.cost_eur), plane="batch", bu=event.bu, model=event.model)
    deps.meter.count("rag_tokens_total", tokens, model=event.model, **{"class": "input"})
    if not is_priced:
        deps.meter.count("rag_cost_unpriced_total", model=event.model)


async def release(share: Share, deps: Deps) -> None:
    """Nothing was spent of it."""
    if share.hold is not None:
        try:
            await deps.admission.release(share.hold)
        except Transient as error:
            log.info("a hold is left to expire: %s", error.message)


def by_document(waiting: Sequence[Pending]) -> dict[tuple[str, int], list[Pending]]:
    """The passages by document and version, in their order."""
    documents: dict[tuple[str, int], list[Pending]] = {}
    for passage in waiting:
        documents.setdefault((passage.document_id, passage.version), []).append(passage)
    return documents


async def _hold(passages: Sequence[Pending], tokens: Sequence[int], plan: Plan, env: Env, deps: Deps) -> Hold | None:
    most = sum(
        max(count, len(passage.text.encode()) // BYTES_PER_TOKEN) for passage, count in zip(passages, tokens, strict=True)
    )
    usage = Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=most)
    cost = price(usage, plan.book, plan.fx, at=datetime.now(UTC).date(), on_unknown=env.on_unknown_price)
    if cost.cost_eur == 0:
        return None
    request = Request(
        id=str(uuid4()), plane="batch", kind="ingest", bu=passages[0].bu, ceilings=(micro_up(cost.cost_eur),), lasts_s=HELD_S
    )
    try:
        return (await deps.admission.admit(request)).hold
    except Transient as error:
        if env.on_meter_down == "refuse":
            raise
        log.warning("passages are embedded without budgets: %s", error.message)
        return None


def _resting(error: Limited, bu: str) -> str:
    """Whose queue rests: a business unit's where its own budget is used up, else everybody's."""
    return bu if error.scope in {f"bu:{bu}", None} else EVERYBODY


async def _rest(error: Limited, bu: str, reason: str, deps: Deps) -> None:
    now = datetime.now(UTC)
    until = now + timedelta(seconds=max(1.0, min(error.retry_after_s, LONGEST_REST_S)))
    log.warning("the embed queue rests for %s: %s", _resting(error, bu), error.message)
    await deps.backlog.pause("embed", _resting(error, bu), until=until, reason=reason)


def _event(share: Share, tokens: int, plan: Plan, env: Env, deps: Deps) -> tuple[CostEvent, bool]:
    usage = Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=tokens, estimated=True)
    at = share.hold.at if share.hold else datetime.now(UTC)
    priced = price(usage, plan.book, plan.fx, at=at.date(), on_unknown=env.on_unknown_price)
    first = share.passages[0]
    event = CostEvent(
        id=share.hold.id if share.hold else str(uuid4()),
        at=at,
        env=env.name,
        plane="batch",
        bu=first.bu,
        kind="ingest",
        subject=first.document_id,
        model=usage.model,
        usage={"calls": [asdict(usage)]},
        cost_eur=priced.cost_eur,
        price_book=priced.price_book,
        fx=priced.fx,
        priced=priced.priced,
        estimated=usage.provider != "local",
        instance=deps.instance,
    )
    return event, priced.priced
