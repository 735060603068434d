"""The road of a new index generation: begun beside the active one -> every document read, cut and embedded for it -> switched to.

Questions are answered from the active one meanwhile, and documents go on being published into it; what changed is built again before
the switch. Whatever ends the building, the next run goes on where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pilotis.batch.afford import Share, afford, book, release
from pilotis.derive.cost import Usage, price
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Conflict, Invalid, Permanent, Transient
from pilotis.ports import Deps, Document, Embedder, Generation, Pending, Standing
from pilotis.rag.passage import Cut, Parsed, cut, embedded_text

AT_ONCE = 50
"""Documents looked up at once."""
CHARACTERS_PER_TOKEN = 4
KEPT = timedelta(days=7)
"""How long a generation that was switched from is kept for the way back."""
ROUNDS = 20
"""How often the switch builds what changed meanwhile, before it says that too much changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is built: the generation, the env as it will be on it, and the model that embeds for it."""

    generation: Generation
    env: Env
    embedder: Embedder


Tell = Callable[[int, int], None]
"""Told how many documents are done, and how many failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What building will take, before it begins."""

    documents: int
    tokens: int
    cost_eur: Decimal
    priced: bool


async def estimate(env: Env, plan: Plan, deps: Deps, *, documents: int) -> Estimate:
    """By the texts of the active generation, a token for every four characters; `env` is of the generation to be."""
    tokens = await deps.generations.characters() // CHARACTERS_PER_TOKEN
    usage = Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=tokens, estimated=True)
    priced = price(usage, plan.book, plan.fx, at=datetime.now(UTC).date(), on_unknown=env.on_unknown_price)
    return Estimate(documents=documents, tokens=tokens, cost_eur=priced.cost_eur, priced=priced.priced)


def find(standings: Sequence[Standing], number: int | None, *, state: str) -> Standing:
    """One by its number, else the newest in `state`. Raises Invalid."""
    found = [one for one in standings if (one.generation.state == state if number is None else one.generation.id == number)]
    if not found:
        what = f"no generation {number}" if number is not None else f"no generation is {state}"
        raise Invalid(f"there is {what}" if number is not None else what, remedy="see: pilotis index status")
    return found[0]


async def begin(wanted: Generation, deps: Deps) -> Generation:
    """The generation that is being built as it is wanted, else a new one. Raises Conflict where the active one is as wanted."""
    standings = await deps.generations.all()
    for one in standings:
        if _made(one.generation) == _made(wanted):
            if one.generation.state == "active":
                raise Conflict(
                    "the index is as the contract asks already",
                    remedy="change embedder, passage_tokens or passage_overlap in the contract, then run this again",
                )
            return one.generation
    return await deps.generations.create(wanted)


async def build(target: Target, plan: Plan, deps: Deps, tell: Tell) -> tuple[int, int]:
    """Put every document into it that is not there as it is now; how many went in, and how many failed.

    What it costs is held and settled document by document, like that of ingestion. Raises Transient
    where a store or the model is away, or a budget is spent: what was built stays, and the next call goes on.
    """
    done = failed = 0
    own, generation, env = replace(deps, embedder=target.embedder), target.generation, target.env
    while documents := await deps.generations.left(generation, limit=AT_ONCE):
        reading = asyncio.create_task(_read(documents[0][0], env, deps))
        for place, (document, version) in enumerate(documents):
            read = await reading
            if place + 1 < len(documents):
                reading = asyncio.create_task(_read(documents[place + 1][0], env, deps))
            try:
                if isinstance(read, Permanent):
                    raise read
                parsed, cuts = read
                vectors = await _embed(_pending(document, version, parsed, cuts), env, plan, own)
            except Permanent as error:
                await deps.generations.fail(generation, document, version, error.message)
                failed += 1
            except BaseException:  # what is read ahead must not outlive whatever ended the building
                reading.cancel()
                raise
            else:
                pairs = list(zip(cuts, vectors, strict=True))
                done += await deps.generations.put(generation, document, version, parsed, pairs)
            tell(done, failed)
    return done, failed


async def switch(target: Target, plan: Plan, deps: Deps, tell: Tell) -> None:
    """Search this generation from now on; the one before is kept. Builds what changed while it was built. Raises Conflict."""
    for _ in range(ROUNDS):
        await build(target, plan, deps, tell)
        try:
            await deps.generations.activate(target.generation)
        except Conflict:
            continue
        await deps.queue.nudge("ingest")
        return
    raise Conflict(
        f"documents change faster than generation {target.generation.id} can follow",
        remedy="pause the queue with: pilotis queue pause ingest --all-bus; then switch, and resume",
    )


async def reclaim(deps: Deps, *, now: datetime) -> Sequence[int]:
    """Drop the generations that were switched from KEPT ago; return their numbers."""
    dropped = []
    for one in await deps.generations.all():
        if one.generation.state == "retired" and one.retired_at is not None and now - one.retired_at > KEPT:
            await deps.generations.drop(one.generation)
            dropped.append(one.generation.id)
    return dropped


async def _read(document: Document, env: Env, deps: Deps) -> tuple[Parsed, Sequence[Cut]] | Permanent:
    """What it says, cut as the generation wants it; a file that cannot be read is a result, so that it may be read ahead."""
    with TemporaryDirectory(prefix="pilotis-parse-") as folder:
        path = Path(folder) / "content"
        try:
            await deps.blobs.fetch(document.sha256, path)
            parsed = await deps.parser.parse(path, name=document.name, media_type=document.media_type)
        except Permanent as error:
            return error
    cuts = await asyncio.to_thread(
        cut,
        parsed,
        document_id=document.id,
        size_tokens=env.passage_tokens,
        overlap_tokens=env.passage_overlap,
        languages=env.languages,
    )
    return (parsed, cuts) if cuts else Permanent("no text was found in it")


def _pending(document: Document, version: int, parsed: Parsed, cuts: Sequence[Cut]) -> list[Pending]:
    return [
        Pending(
            passage_id=one.id,
            document_id=document.id,
            version=version,
            bu=document.bu,
            text=embedded_text(parsed.title, one.headings, one.text),
        )
        for one in cuts
    ]


async def _embed(waiting: Sequence[Pending], env: Env, plan: Plan, deps: Deps) -> list[NDArray[np.float32]]:
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(waiting), env.batch_emb):
        batch = waiting[start : start + env.batch_emb]
        (share,) = await _afforded(batch, env, plan, deps)
        if share.hold:
            deps.admission.begin(share.hold)
        try:
            vectors += list(await deps.embedder.embed([passage.text for passage in batch]))
        except BaseException:  # whatever it was, nothing was spent
            await release(share, deps)
            raise
        await book(share, {passage.passage_id for passage in batch}, plan, env, deps)
    return vectors


async def _afforded(batch: Sequence[Pending], env: Env, plan: Plan, deps: Deps) -> list[Share]:
    shares = await afford(batch, plan, env, deps, rests=False)
    if not shares:
        raise Transient(
            "a budget is spent", remedy="raise it in the contract, or go on later: the same command goes on where it stopped"
        )
    return shares


def _made(generation: Generation) -> tuple[object, ...]:
    return generation.model, generation.dimension, generation.passage_tokens, generation.passage_overlap
