"""Fakes of what the online plane asks for. Small, deterministic, and as strict as the adapters they stand for."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np

from pilotis.derive.cost import Usage
from pilotis.derive.names import METRICS
from pilotis.ports import Hit, Query, Vectors
from pilotis.rag.lexical import terms
from pilotis.rag.prompt import Prompt
from pilotis.testing.keys import MemoryKeys
from pilotis.testing.ledger import MemoryLedger

__all__ = [
    "Entry",
    "HashingEmbedder",
    "MemoryKeys",
    "MemoryLedger",
    "MemoryMeter",
    "MemoryPassages",
    "OverlapReranker",
    "ScriptedGenerator",
]


class HashingEmbedder:
    """A bag of stemmed words hashed into `dimension` numbers: texts that share words are close. A token is a word."""

    def __init__(self, dimension: int = 384, languages: frozenset[str] | None = frozenset({"en"})) -> None:
        self.name = "hashing"
        self.dimension = dimension
        self.languages = languages
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for term in terms(text, "en") or [""]:
                digest = int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "big")
                vectors[row, digest % self.dimension] += 1 if digest >> 63 else -1
            vectors[row, 0] += 1e-6  # words may cancel out: no row is all zeros
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def close(self) -> None:
        """Nothing to close."""


class ScriptedGenerator:
    """Says what it was told to, or what `reply` makes of the prompt; an exception among the pieces is raised in its turn."""

    def __init__(
        self,
        *pieces: str | BaseException,
        reply: Callable[[Prompt], Sequence[str]] | None = None,
        usage: Usage | None = None,
        delay_s: float = 0.0,
        model: str = "scripted",
        provider: str = "local",
    ) -> None:
        self.model, self.provider = model, provider
        self._pieces, self._reply, self._usage, self._delay_s = pieces, reply, usage, delay_s
        self.prompts: list[Prompt] = []
        self.closed_streams = 0

    async def generate(self, prompt: Prompt, *, max_tokens: int) -> AsyncIterator[str | Usage]:
        self.prompts.append(prompt)
        try:
            for piece in (self._reply(prompt) if self._reply else self._pieces)[:max_tokens]:
                await asyncio.sleep(self._delay_s)
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
            if self._usage is not None:
                yield self._usage
        finally:
            self.closed_streams += 1

    async def close(self) -> None:
        """Nothing to close."""


class OverlapReranker:
    """Scores a passage by how many words it shares with the question, or fails as it was told to."""

    def __init__(self, error: Exception | None = None, model: str = "overlap") -> None:
        self.model = model
        self._error = error

    async def rerank(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        if self._error:
            raise self._error
        asked = set(terms(question, "en"))
        return [len(asked & set(terms(passage, "en"))) / max(1, len(asked)) for passage in passages]

    async def close(self) -> None:
        """Nothing to close."""


@dataclass(slots=True)
class Entry:
    """A passage in the index: a hit without scores, its owner, its document's metadata and its vector."""

    bu: str
    hit: Hit
    vector: Vectors
    metadata: dict[str, object] = field(default_factory=dict)


class MemoryPassages:
    """Exact cosine and BM25 over a list, fused as the database does: each score over the best of its kind, then weighted."""

    def __init__(self) -> None:
        self.generation = "memory"
        self.entries: list[Entry] = []
        self.queries: list[Query] = []

    async def search(self, query: Query) -> Sequence[Hit]:
        self.queries.append(query)
        seen = [entry for entry in self.entries if _admits(query, entry)]
        if not seen:
            return []
        lexical = _bm25(query, [entry.hit for entry in seen])
        dense = [0.0 if query.vector is None else float(entry.vector @ query.vector) for entry in seen]
        weight = query.dense_weight if query.vector is not None else 0.0
        top_lexical, top_dense = max(lexical) or 1.0, max(*dense, 1e-9)
        hits = [
            replace(entry.hit, score=weight * max(0.0, d) / top_dense + (1 - weight) * b / top_lexical, dense=d, lexical=b)
            for entry, d, b in zip(seen, dense, lexical, strict=True)
        ]
        found = [hit for hit in hits if hit.score > 0]
        return sorted(found, key=lambda hit: (-hit.score, hit.passage_id))[: query.top_k]


class MemoryMeter:
    """Keeps every number; refuses names and labels that `derive.names` does not have, as a real registry does."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.counts[_series("counter", name, labels)] += amount  # type: ignore[assignment]  # a Counter of floats works

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.values.setdefault(_series("histogram", name, labels), []).append(value)

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        self.values[_series("gauge", name, labels)] = [value]

    def total(self, name: str, **labels: str) -> float:
        """Sum of the counters of that name whose labels include these."""
        return sum(n for (known, have), n in self.counts.items() if known == name and labels.items() <= dict(have).items())


def _series(kind: str, name: str, labels: dict[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    metric = METRICS[name]
    if metric.kind != kind or set(metric.labels) != set(labels):
        raise ValueError(f"{name} is a {metric.kind} with labels {metric.labels}, not a {kind} with {tuple(labels)}")
    return name, tuple(sorted(labels.items()))


def _admits(query: Query, entry: Entry) -> bool:
    return (
        entry.bu == query.bu
        and query.collection in {None, entry.hit.collection}
        and all(key in entry.metadata and entry.metadata[key] == value for key, value in query.metadata.items())
    )


def _bm25(query: Query, hits: Sequence[Hit], k1: float = 1.2, b: float = 0.75) -> list[float]:
    counts = [Counter(terms(f"{hit.title or ''} {' '.join(hit.headings)} {hit.text}", hit.language)) for hit in hits]
    mean = sum(count.total() for count in counts) / len(counts) or 1.0
    asked = {hit.language: set(terms(query.text, hit.language)) for hit in hits}
    scores = []
    for hit, count in zip(hits, counts, strict=True):
        score = 0.0
        for term in asked[hit.language] & count.keys():
            holders = sum(term in other for other in counts)
            rarity = math.log(1 + (len(hits) - holders + 0.5) / (holders + 0.5))
            score += rarity * count[term] * (k1 + 1) / (count[term] + k1 * (1 - b + b * count.total() / mean))
        scores.append(score)
    return scores
