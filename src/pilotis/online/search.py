"""From a question to the passages that may answer it: embed, search, and say clearly where there is nothing to search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env, Plan
from pilotis.errors import NotFound
from pilotis.online.admission import Entry, enter
from pilotis.online.ask import Ask, read
from pilotis.online.cache import pack_hits, unpack_hits
from pilotis.online.events import Receipt
from pilotis.online.settle import Tab
from pilotis.online.timing import Stopwatch, counted
from pilotis.ports import Deps, Hit, Kept, Query
from pilotis.rag.question import Question
from pilotis.rag.ranking import REREAD, by_phrases, dense_weight

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a search returns."""

    id: str
    hits: tuple[Hit, ...]
    language: str
    receipt: Receipt
    timings_ms: Mapping[str, float]


async def search(ask: Ask, env: Env, plan: Plan, deps: Deps) -> Results:
    """Search without answering. The embedding of the question is metered and settled like that of an answer.

    Raises Invalid, Limited, NotFound, Transient.
    """
    watch = Stopwatch(deps.meter)
    with counted(deps.meter, "search", watch) as outcome:
        question = read(ask, env)
        entry = await enter(ask, question, env, plan, deps, kind="search", watch=watch)
        async with Tab(entry, "search", env=env, plan=plan, deps=deps) as tab:
            hits, fresh = await find(ask, question, entry, deps, tab=tab, watch=watch)
            with watch.stage("settle"):
                receipt = await tab.settle(keep=_kept(hits, entry, env) if fresh else None)
        outcome.name = "answered" if hits else "not_found"
    return Results(id=tab.id, hits=tuple(hits), language=question.language, receipt=receipt, timings_ms=watch.milliseconds())


async def find(
    ask: Ask, question: Question, entry: Entry, deps: Deps, *, tab: Tab, watch: Stopwatch
) -> tuple[Sequence[Hit], bool]:
    """The passages, best first, and whether the index was asked: else the same question was, a moment ago.

    Raises NotFound where the collection does not exist or nothing at all was ingested.
    """
    env = entry.rung.env
    if entry.passages is not None:
        return unpack_hits(entry.passages), False
    vector = await embed(question, env, deps, tab=tab, watch=watch)
    return await look(ask, question, vector, env, deps, watch=watch), True


async def embed(question: Question, env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch) -> Vector | None:
    """The question's vector, put on the tab; None where words alone are searched."""
    if _dense_weight(question, env, deps) == 0:
        return None
    tab.begin(env.embedder.provider)
    tokens = deps.embedder.count_tokens(question.text)
    usage = Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=tokens, estimated=True)
    with watch.stage("embed"), tab.calling(usage):
        vector: Vector = (await deps.embedder.embed([question.text]))[0]
    return vector


async def look(ask: Ask, question: Question, vector: Vector | None, env: Env, deps: Deps, *, watch: Stopwatch) -> Sequence[Hit]:
    """Search the index once, best passage first.

    Without the flag `hybrid` one list alone is searched: by vectors, or by words where the model does not know the language.

    Raises NotFound where the collection does not exist or nothing at all was ingested.
    """
    with watch.stage("search"):
        hits = await deps.passages.search(
            Query(
                bu=ask.bu,
                text=question.text,
                language=question.language,
                vector=vector,
                # The first are put in order anew, whether three are wanted or thirty.
                top_k=max(env.top_k, REREAD) if env.phrases else env.top_k,
                collection=ask.collection,
                metadata=ask.metadata,
                dense_weight=_dense_weight(question, env, deps),
            )
        )
        hits = _read_again(question, hits, env, deps)
    if not hits:
        await _require_collection(ask, deps)
    return hits


def _read_again(question: Question, hits: Sequence[Hit], env: Env, deps: Deps) -> Sequence[Hit]:
    if not env.phrases:
        return hits
    return by_phrases(question, hits, known=deps.embedder.languages)[: env.top_k]


def _kept(hits: Sequence[Hit], entry: Entry, env: Env) -> Kept | None:
    if not hits or entry.passages_key is None:
        return None
    documents = tuple(dict.fromkeys(hit.document_id for hit in hits))
    return Kept(passages_key=entry.passages_key, passages=pack_hits(hits), ttl_s=env.cache_ttl_s, documents=documents)


def _dense_weight(question: Question, env: Env, deps: Deps) -> float:
    known = deps.embedder.languages
    if env.hybrid:
        return dense_weight(question.language, known)
    return 1.0 if known is None or question.language in known else 0.0


async def _require_collection(ask: Ask, deps: Deps) -> None:
    known = await deps.documents.collections(ask.bu)
    if not known:
        raise NotFound(
            f"business unit {ask.bu!r} has no documents yet", remedy="send some: pilotis ingest PATH, or POST /v1/documents"
        )
    if ask.collection is not None and ask.collection not in known:
        names = ", ".join(repr(name) for name in sorted(known))
        raise NotFound(f"there is no collection {ask.collection!r}", remedy=f"name one that exists: {names}")
