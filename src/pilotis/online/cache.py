"""What need not be paid twice: the keys under which answers and search results are kept, and the form in which they are.

A key holds whatever the answer depends on. The business unit is part of the key and of the store's own key besides; what is
made from a document goes when the document goes (`ports.Cache.forget`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pydantic_core import from_json, to_json

from pilotis.derive.ladder import Rung
from pilotis.derive.plan import Env
from pilotis.online.ask import Ask
from pilotis.online.events import Answer, Citation, Receipt, Step
from pilotis.ports import Deps, Hit, Kept
from pilotis.rag.question import Question

FORM = 2
"""Of keys and records: raise it when either changes, and what older versions kept is no longer found."""

CHUNK_WORDS = 12
"""A cached answer is streamed again in pieces of so many words."""

_HIT = tuple(Hit.__dataclass_fields__)


def answer_keys(ask: Ask, question: Question, ladder: Sequence[Rung], deps: Deps) -> tuple[str, ...]:
    """One key for each step of the env's ladder; none where the env caches nothing."""
    if ladder[0].env.cache_ttl_s == 0:
        return ()
    asked = _asked(ask, question, deps)
    own = {"prompt": ask.prompt, "history": ask.history, "max_tokens": ask.max_tokens}
    base = sha256(b"answer" + asked + _canonical(own))
    return tuple(_with(base, _writing(rung.env)) for rung in ladder)


def passages_keys(ask: Ask, question: Question, ladder: Sequence[Rung], deps: Deps) -> tuple[str, ...]:
    """The same for what the search found, before it is reranked."""
    if ladder[0].env.cache_ttl_s == 0:
        return ()
    base = sha256(b"passages" + _asked(ask, question, deps))
    return tuple(_with(base, _searching(rung.env)) for rung in ladder)


def pack_answer(answer: Answer) -> bytes:
    """What of an answer is the same for everybody who asks it."""
    return to_json(
        {
            "id": answer.id,
            "text": answer.text,
            "found": answer.found,
            "language": answer.language,
            "citations": [asdict(citation) for citation in answer.citations],
            "model": answer.model,
            "prompt": answer.prompt,
            "step": answer.step,
            "steps": [asdict(step) for step in answer.steps],
            "cut": answer.cut,
            "cost_eur": str(answer.receipt.cost_eur),
            "price_book": answer.receipt.price_book,
        }
    )


def unpack_answer(record: bytes, *, id: str, env: str, timings_ms: dict[str, float]) -> Answer:  # noqa: A002 - the answer's own field
    """The answer again, for another request: it costs nothing now, and says what it had cost.

    It keeps the id it was written under, which is its line in the ledger; `id` is for records that do not have it.
    """
    kept: dict[str, Any] = from_json(record)
    return Answer(
        id=kept.get("id", id),
        text=kept["text"],
        found=kept["found"],
        language=kept["language"],
        citations=tuple(Citation(**citation) for citation in kept["citations"]),
        receipt=Receipt(
            usages=(),
            cost_eur=Decimal(0),
            priced=True,
            price_book=kept["price_book"],
            fx=None,
            elsewhere_eur={},
            saved_eur=Decimal(kept["cost_eur"]),
        ),
        timings_ms=timings_ms,
        env=env,
        model=kept["model"],
        prompt=kept["prompt"],
        step=kept["step"],
        cache="hit",
        steps=tuple(Step(**step) for step in kept["steps"]),
        cut=kept["cut"],
    )


def pack_hits(hits: Sequence[Hit]) -> bytes:
    """Passages as rows, without the names of their fields."""
    return to_json([[getattr(hit, name) for name in _HIT] for hit in hits])


def unpack_hits(packed: bytes) -> tuple[Hit, ...]:
    """The passages again."""
    rows = (dict(zip(_HIT, row, strict=True)) for row in from_json(packed))
    return tuple(Hit(**{**row, "headings": tuple(row["headings"])}) for row in rows)


def replayed(text: str) -> Iterator[str]:
    """A finished text in pieces, as a stream gives it: together they are the text."""
    begins = 0
    words = 0
    for position, character in enumerate(text):
        if character == " ":
            words += 1
            if words == CHUNK_WORDS:
                yield text[begins : position + 1]
                begins, words = position + 1, 0
    if begins < len(text):
        yield text[begins:]


def kept(
    answer: Answer, shown: Sequence[Hit], found: Sequence[Hit] | None, *, keys: tuple[str | None, str | None], ttl_s: int
) -> Kept:
    """What a request leaves for the next ones. `found` is None where its passages came from the cache themselves.

    An answer that says "not found" depends on every document there is, those to come included.
    """
    answer_key, passages_key = keys
    documents = dict.fromkeys(hit.document_id for hit in (*shown, *(found or ())))
    return Kept(
        answer_key=answer_key,
        record=pack_answer(answer) if answer_key else b"",
        shown=pack_hits(shown) if answer_key else b"",
        passages_key=passages_key if found else None,
        passages=pack_hits(found) if found and passages_key else b"",
        ttl_s=ttl_s,
        documents=tuple(documents) if answer.found else (*documents, "*"),
    )


def _asked(ask: Ask, question: Question, deps: Deps) -> bytes:
    return _canonical(
        {
            "form": FORM,
            "bu": ask.bu,
            "question": question.normalised,
            "language": question.language,
            "collection": ask.collection,
            "metadata": sorted((key, type(value).__name__, value) for key, value in ask.metadata.items()),
            "generation": deps.passages.generation,
        }
    )


@lru_cache(maxsize=2048)
def _searching(env: Env) -> bytes:
    shaping = {
        "hybrid": env.hybrid,
        "phrases": env.phrases,
        "top_k": env.top_k,
        "embedder": asdict(env.embedder),
        "languages": env.languages,
    }
    return _canonical(shaping)


@lru_cache(maxsize=2048)
def _writing(env: Env) -> bytes:
    shaping = {
        "llm": asdict(env.llm),
        "rerank": env.rerank,
        "reranker": asdict(env.reranker) if env.reranker else None,
        "prompt": env.prompt,
        "tok_in_max": env.tok_in_max,
        "tok_out_max": env.tok_out_max,
        "distinct": env.distinct,
        "abstain": env.abstain,
    }
    return _searching(env) + _canonical(shaping)


def _with(base: Any, rest: bytes) -> str:
    digest = base.copy()
    digest.update(rest)
    return str(digest.hexdigest())


def _canonical(value: Any) -> bytes:
    """JSON in the order given: what has no order of its own is sorted by whoever gives it."""
    return to_json(value)
