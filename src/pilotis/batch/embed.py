"""From passages that wait to a document that can be found: vectors in batches, across documents, then one visible swap.

pending -> a place in the provider's quota -> money held -> embed, in halves where a batch fails -> settle -> publish
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from pilotis.batch.afford import Share, afford, book, release
from pilotis.batch.purge import purge
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Permanent, SetupError, Transient
from pilotis.ports import Deps, Pending, Quota

SHIFT_S = 5.0
"""How long one call works before it lets the queue breathe: a worker that is asked to end does so between two calls."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
LEASE_S, LEASE_PER_PASSAGE_S = 30.0, 0.25
"""A worker that dies loses its batch after this time, which the slowest of models needs for one."""
PATIENCE_S = 10.0
"""How long a batch in hand waits for its place in the provider's quota; for longer it is given back."""
SHARE_OF_QUOTA = 0.8
"""Of what the provider allows, batches take so much: questions need the rest."""
QUOTED_CHARACTERS = 60

Embedded = list[tuple[Pending, NDArray[np.float32]]]


async def embed_waiting(plan: Plan, env: Env, deps: Deps) -> bool:
    """Embed and publish until nothing waits; True where the shift ended before the work did.

    A batch takes passages of as many documents as it needs to be full, of the business units in turn. Raises Transient where a
    store or the model is away or over its quota, SetupError where the model takes no key or is another: the passages wait, and
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
            shares, embedded, failure = await _batch(waiting, plan, env, deps)
            if keeping:
                await keeping
            # The database takes these in while the model reads the next ones.
            keeping = asyncio.create_task(_keep(shares, embedded, plan, env, deps))
            if failure:
                raise failure
    finally:
        if keeping:
            await keeping
    return True


async def _batch(
    waiting: Sequence[Pending], plan: Plan, env: Env, deps: Deps
) -> tuple[list[Share], Embedded, Transient | SetupError | None]:
    """What could be paid and embedded of a batch; the rest is given back, with the reason."""
    try:
        await _place(waiting, env, deps)
        shares = await afford(waiting, plan, env, deps)
    except (Transient, SetupError) as error:
        await deps.documents.postpone(waiting, error.message)
        return [], [], error
    for share in shares:
        if share.hold:
            deps.admission.begin(share.hold)
    embedded, failure = await _embed([passage for share in shares for passage in share.passages], deps, failed=set())
    if failure:
        done = [passage for passage, _ in embedded]
        left = [passage for share in shares for passage in share.passages if passage not in done]
        await deps.documents.postpone(left, failure.message)
        if isinstance(failure, Transient):
            with suppress(Transient):  # without Redis each process rests by itself
                await deps.pace.rest(env.embedder.model, failure.retry_after_s)
    return shares, embedded, failure


async def _place(waiting: Sequence[Pending], env: Env, deps: Deps) -> None:
    """Wait for the batch's place in the provider's quota. Raises Transient where that takes too long."""
    model = env.embedder
    if model.provider == "local":
        return
    quota = Quota(
        calls_per_min=model.requests_per_min and model.requests_per_min * SHARE_OF_QUOTA,
        tokens_per_min=model.tokens_per_min and model.tokens_per_min * SHARE_OF_QUOTA,
    )
    tokens, ends = sum(deps.embedder.count_tokens(passage.text) for passage in waiting), time.monotonic() + PATIENCE_S
    while True:
        try:
            wait_s = await deps.pace.take(model.model, quota, tokens=tokens)
        except Transient:  # Redis is away: the provider itself says when it is too much
            return
        if wait_s <= 0:
            return
        if time.monotonic() + wait_s > ends:
            raise Transient(f"{model.model} is asked as often as its provider allows", retry_after_s=wait_s)
        await asyncio.sleep(wait_s)


async def _embed(waiting: Sequence[Pending], deps: Deps, *, failed: set[str]) -> tuple[Embedded, Transient | SetupError | None]:
    """Vectors of a batch, and why some are missing.

    A batch that is refused or breaks off is halved, again and again where it was refused: in the end one passage stands alone, and
    its document fails by it. Of a document that has failed nothing more is embedded.
    """
    waiting = [passage for passage in waiting if passage.document_id not in failed]
    if not waiting:
        return [], None
    try:
        return await _vectors(waiting, deps), None
    except SetupError as error:
        return [], error
    except Permanent as error:
        return await _halves(waiting, error, deps, failed=failed)
    except Transient as error:
        return await _half(waiting, error, deps)


async def _halves(
    waiting: Sequence[Pending], error: Permanent, deps: Deps, *, failed: set[str]
) -> tuple[Embedded, Transient | SetupError | None]:
    if len(waiting) == 1:
        (passage,) = waiting
        failed.add(passage.document_id)
        begins = " ".join(passage.text.split())[:QUOTED_CHARACTERS]
        await deps.documents.fail(passage.document_id, passage.version, f"{error.message}, at the passage «{begins}…»")
        return [], None
    middle = len(waiting) // 2
    first, failure = await _embed(waiting[:middle], deps, failed=failed)
    if failure:
        return first, failure
    second, failure = await _embed(waiting[middle:], deps, failed=failed)
    return first + second, failure


async def _half(waiting: Sequence[Pending], error: Transient, deps: Deps) -> tuple[Embedded, Transient | SetupError | None]:
    """A batch that broke off may have been too much at once: half of it is tried, once."""
    if len(waiting) == 1:
        return [], error
    try:
        return await _vectors(waiting[: len(waiting) // 2], deps), error
    except (Transient, Permanent, SetupError):
        return [], error


async def _vectors(waiting: Sequence[Pending], deps: Deps) -> Embedded:
    return list(zip(waiting, await deps.embedder.embed([passage.text for passage in waiting]), strict=True))


async def _keep(shares: Sequence[Share], embedded: Embedded, plan: Plan, env: Env, deps: Deps) -> None:
    done = {(passage.document_id, passage.passage_id) for passage, _ in embedded}
    for share in shares:
        own = {passage.passage_id for passage in share.passages if (passage.document_id, passage.passage_id) in done}
        if own:
            await _patiently(lambda share=share, own=own: book(share, own, plan, env, deps))  # type: ignore[misc]
        else:
            await release(share, deps)
    if embedded:
        await _patiently(lambda: deps.documents.publish(embedded))
        with suppress(Transient):  # it is noted, and done before long
            await purge(deps.documents, deps.cache)


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
