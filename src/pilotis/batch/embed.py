"""From passages that wait to a document that can be found: vectors in batches, across documents, then one visible swap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from pilotis.batch.purge import purge
from pilotis.derive.cost import Usage, price
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Permanent, SetupError, Transient
from pilotis.ports import CostEvent, Deps, Pending

SHIFT_S = 5.0
"""How long one call works before it lets the queue breathe: a worker that is asked to end does so between two calls."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
LEASE_S, LEASE_PER_PASSAGE_S = 15.0, 0.25
"""A worker that dies loses its batch after this time, which the slowest of models needs for one."""

Embedded = list[tuple[Pending, NDArray[np.float32]]]


async def embed_waiting(plan: Plan, env: Env, deps: Deps) -> bool:
    """Embed and publish until nothing waits; True where the shift ended before the work did.

    A batch takes passages of as many documents as it needs to be full. What it costs goes to the ledger, per document. Raises
    Transient where a store or the model is away, SetupError where the model takes no key or is another: the passages wait, and
    their documents say why.
    """
    ends = time.monotonic() + SHIFT_S
    await deps.documents.publish(())
    with suppress(Transient):  # it is noted, and done before long
        await purge(deps.documents, deps.cache)
    keeping: asyncio.Task[None] | None = None
    try:
        while time.monotonic() < ends:
            waiting = await deps.documents.pending(env.batch_emb, lease_s=LEASE_S + LEASE_PER_PASSAGE_S * env.batch_emb)
            if not waiting:
                return False
            try:
                embedded = await _embed(waiting, deps)
            except (Transient, SetupError) as error:
                await deps.documents.postpone(waiting, error.message)
                raise
            if keeping:
                await keeping
            # The database takes these in while the model reads the next ones.
            keeping = asyncio.create_task(_keep(embedded, plan, env, deps))
    finally:
        if keeping:
            await keeping
    return True


async def _embed(waiting: Sequence[Pending], deps: Deps) -> Embedded:
    """Vectors of the batch; where the model refuses it, of each document by itself, so that one does not take others down."""
    try:
        return list(zip(waiting, await deps.embedder.embed([passage.text for passage in waiting]), strict=True))
    except Permanent as error:
        documents = _by_document(waiting)
        if len(documents) > 1:
            return [pair for passages in documents.values() for pair in await _embed(passages, deps)]
        ((document_id, version),) = documents
        await deps.documents.fail(document_id, version, error.message)
        return []


async def _keep(embedded: Embedded, plan: Plan, env: Env, deps: Deps) -> None:
    for passages in _by_document([passage for passage, _ in embedded]).values():
        await _book(passages, plan, env, deps)
    await _patiently(lambda: deps.documents.publish(embedded))
    with suppress(Transient):  # it is noted, and done before long
        await purge(deps.documents, deps.cache)


def _by_document(waiting: Sequence[Pending]) -> dict[tuple[str, int], list[Pending]]:
    documents: dict[tuple[str, int], list[Pending]] = {}
    for passage in waiting:
        documents.setdefault((passage.document_id, passage.version), []).append(passage)
    return documents


async def _book(passages: Sequence[Pending], plan: Plan, env: Env, deps: Deps) -> None:
    model = env.embedder
    tokens = sum(deps.embedder.count_tokens(passage.text) for passage in passages)
    usage = Usage(model=model.model, provider=model.provider, input_tokens=tokens, estimated=True)
    now = datetime.now(UTC)
    priced = price(usage, plan.book, plan.fx, at=now.date(), on_unknown=env.on_unknown_price)
    event = CostEvent(
        id=str(uuid4()),
        at=now,
        env=env.name,
        plane="batch",
        bu=passages[0].bu,
        kind="ingest",
        subject=passages[0].document_id,
        model=model.model,
        usage={"calls": [asdict(usage)]},
        cost_eur=priced.cost_eur,
        price_book=priced.price_book,
        fx=priced.fx,
        priced=priced.priced,
    )
    await _patiently(lambda: deps.ledger.append(event))
    deps.meter.count("rag_cost_eur_total", float(priced.cost_eur), plane="batch", bu=event.bu, model=event.model)
    if not priced.priced:
        deps.meter.count("rag_cost_unpriced_total", model=event.model)


async def _patiently(act: Callable[[], Awaitable[object]]) -> None:
    """Vectors are paid for: a database that is away for a moment does not throw them away."""
    for pause_s in PAUSES_S:
        try:
            await act()
        except Transient:
            await asyncio.sleep(pause_s)
        else:
            return
    await act()
