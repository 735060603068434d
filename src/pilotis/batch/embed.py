"""From passages that wait to a document that can be found: vectors in batches, across documents, then one visible swap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pilotis.derive.plan import Env
from pilotis.errors import Permanent, Transient
from pilotis.ports import Deps, Pending

SHIFT_S = 2.0
"""How long one call works before it lets the queue breathe: a worker that is asked to end does so between two calls."""
PUBLISH_PAUSES_S = (0.5, 1.0, 2.0, 4.0)


async def embed_waiting(env: Env, deps: Deps) -> bool:
    """Embed and publish until nothing waits; True where the shift ended before the work did.

    A batch takes passages of as many documents as it needs to be full. Raises Transient where a store or the model is away: the
    passages are claimed for half a minute and then free again.
    """
    ends = time.monotonic() + SHIFT_S
    await deps.documents.publish(())
    while time.monotonic() < ends:
        waiting = await deps.documents.pending(env.batch_emb)
        if not waiting:
            return False
        await _publish(await _embed(waiting, deps), deps)
    return True


async def _embed(waiting: Sequence[Pending], deps: Deps) -> list[tuple[Pending, NDArray[np.float32]]]:
    """Vectors of the batch; where the model refuses it, of each document by itself, so that one does not take others down."""
    try:
        return await _vectors(waiting, deps)
    except Permanent:
        alone: dict[tuple[str, int], list[Pending]] = {}
        for passage in waiting:
            alone.setdefault((passage.document_id, passage.version), []).append(passage)
        embedded = []
        for (document_id, version), passages in alone.items():
            try:
                embedded += await _vectors(passages, deps)
            except Permanent as error:
                await deps.documents.fail(document_id, version, error.message)
        return embedded


async def _publish(embedded: list[tuple[Pending, NDArray[np.float32]]], deps: Deps) -> None:
    """Vectors are paid for: a database that is away for a moment does not throw them away."""
    for pause_s in PUBLISH_PAUSES_S:
        try:
            await deps.documents.publish(embedded)
        except Transient:
            await asyncio.sleep(pause_s)
        else:
            return
    await deps.documents.publish(embedded)


async def _vectors(waiting: Sequence[Pending], deps: Deps) -> list[tuple[Pending, NDArray[np.float32]]]:
    vectors = await deps.embedder.embed([passage.text for passage in waiting])
    return list(zip(waiting, vectors, strict=True))
