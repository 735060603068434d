"""From a question to the passages that may answer it: embed, search, and say clearly where there is nothing to search."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env, Plan
from pilotis.errors import Invalid, NotFound
from pilotis.online.settle import Receipt, Tab
from pilotis.online.timing import Stopwatch, counted
from pilotis.ports import Deps, Hit, Query
from pilotis.rag.question import Question, check_characters, parse
from pilotis.rag.ranking import dense_weight

Vector = NDArray[np.float32]

MAX_TOP_K = 100
MAX_COLLECTION_CHARACTERS = 200
MAX_FILTERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of a business unit, as its edge read it."""

    bu: str
    text: str
    collection: str | None = None
    """None searches all collections of the business unit."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Only documents whose metadata holds all of these."""
    top_k: int | None = None
    """None takes the env's."""
    prompt: str | None = None
    """Version of the prompt; None takes the env's."""


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

    Raises Invalid, NotFound, Transient.
    """
    watch = Stopwatch(deps.meter)
    with counted(deps.meter, "search", watch) as outcome:
        question = read(ask, env)
        async with Tab(str(uuid.uuid4()), ask.bu, "search", env=env, plan=plan, deps=deps) as tab:
            vector = await embed(question, env, deps, tab=tab, watch=watch)
            tab.close()
            hits = await look(ask, question, vector, env, deps, watch=watch)
            with watch.stage("settle"):
                receipt = await tab.settle()
        outcome.name = "answered" if hits else "not_found"
    return Results(id=tab.id, hits=tuple(hits), language=question.language, receipt=receipt, timings_ms=watch.milliseconds())


def read(ask: Ask, env: Env) -> Question:
    """Check everything the caller sent. Raises Invalid."""
    if ask.top_k is not None and not 1 <= ask.top_k <= MAX_TOP_K:
        raise Invalid(
            f"top_k is {ask.top_k}; it goes from 1 to {MAX_TOP_K}",
            remedy=f"leave it out to take {env.top_k}",
            code="invalid_top_k",
        )
    if ask.collection is not None:
        _check_name(ask.collection, "the collection's name")
    if len(ask.metadata) > MAX_FILTERS:
        raise Invalid(
            f"{len(ask.metadata)} metadata filters; the limit is {MAX_FILTERS}",
            remedy="filter by fewer keys",
            code="invalid_metadata",
        )
    for key, value in ask.metadata.items():
        _check_name(key, "a metadata key")
        if isinstance(value, str):
            check_characters(value, f"the metadata filter {key!r}")
        elif not isinstance(value, bool | int | float | None):
            raise Invalid(
                f"the metadata filter {key!r} is a {type(value).__name__}",
                remedy="filter by a text, a number, true, false or null",
                code="invalid_metadata",
            )
    return parse(ask.text, languages=env.languages)


async def embed(question: Question, env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch) -> Vector | None:
    """The question's vector, put on the tab; None where words alone are searched."""
    if _dense_weight(question, env, deps) == 0:
        return None
    with watch.stage("embed"):
        vector: Vector = (await deps.embedder.embed([question.text]))[0]
    tokens = deps.embedder.count_tokens(question.text)
    tab.add(Usage(model=env.embedder.model, provider=env.embedder.provider, input_tokens=tokens, estimated=True))
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
                top_k=ask.top_k or env.top_k,
                collection=ask.collection,
                metadata=ask.metadata,
                dense_weight=_dense_weight(question, env, deps),
            )
        )
    if not hits:
        await _require_collection(ask, deps)
    return hits


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


def _check_name(name: str, what: str) -> None:
    check_characters(name, what)
    if not name.strip():
        raise Invalid(f"{what} is empty", remedy="leave it out or name one", code="invalid_name")
    if len(name) > MAX_COLLECTION_CHARACTERS:
        raise Invalid(
            f"{what} has {len(name):,} characters; the limit is {MAX_COLLECTION_CHARACTERS}",
            remedy="shorten it",
            code="invalid_name",
        )
