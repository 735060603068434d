"""A corpus of any size, synthesised around real passages: their sentences recombined, their vectors mixed and perturbed.

Written straight into the tables, because parsing and embedding a hundred thousand passages would take an hour and measure something
else. The tables, indexes and statistics are the product's own.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
from psycopg import sql

from common import find_sets, read_set
from pilotis.adapters.postgres.vectors import sparse_text, vector_text
from pilotis.rag.lexical import passage_weights
from pilotis.rag.passage import Parsed, cut

BU = "bench"
_GENERATION = 1


def real_passages(source: Path, limit: int = 2000) -> list[str]:
    """Passages of the Markdown files below `source`, or of the first English judged set in it."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(source.rglob("*.md"))[:400]]
    if not texts:
        folder = next(path for path in find_sets(source) if path.name.endswith("-en"))
        texts = [f"# {row.get('title', '')}\n\n{row['text']}" for row in read_set(folder).corpus]
    found = [
        piece.text
        for n, text in enumerate(texts)
        for piece in cut(Parsed(text=text, title=None), document_id=str(n), size_tokens=200)
    ]
    return random.Random(7).sample(found, min(limit, len(found)))


def grow(url: str, passages: Sequence[str], vectors: np.ndarray, *, size: int) -> None:
    """Replace the bench's business unit by `size` synthetic passages."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE document, passage, entry, draft, lexeme, corpus CASCADE")
        index = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s", (f"entry_embedding_{_GENERATION}",)
        ).fetchone()
        assert index is not None
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(f"entry_embedding_{_GENERATION}")))
        documents = _documents(connection, count=max(1, size // 20))
        counts: Counter[int] = Counter()
        rows = list(enumerate(_mixed(passages, vectors, size)))
        with connection.cursor().copy(
            "COPY passage (generation, id, document_id, ordinal, text, indexed_text, headings, start_char, end_char, language) FROM STDIN"
        ) as copy:
            for n, (text, _) in rows:
                copy.write_row((_GENERATION, f"p{n}", documents[n % len(documents)], n, text, text, [], 0, len(text), "en"))
        keys: dict[str, int] = dict(connection.execute("SELECT id, key FROM passage").fetchall())
        with connection.cursor().copy(
            "COPY entry (key, generation, bu, collection, metadata, embedding, terms, weights) FROM STDIN"
        ) as copy:
            for n, (text, vector) in rows:
                weights = passage_weights(text, language="en", scope=BU)
                counts.update(weights.keys())
                copy.write_row(
                    (
                        keys[f"p{n}"],
                        _GENERATION,
                        BU,
                        "default",
                        "{}",
                        vector_text(vector),
                        sorted(weights),
                        sparse_text(weights),
                    )
                )
        with connection.cursor().copy("COPY lexeme (generation, term, passages) FROM STDIN") as copy:
            for term, n in counts.items():
                copy.write_row((_GENERATION, term, n))
        connection.execute("INSERT INTO corpus VALUES (%s, %s, %s)", (_GENERATION, BU, size))
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute(index[0])
        connection.execute("VACUUM (ANALYZE) entry, passage, lexeme, document")


def questions(passages: Sequence[str], count: int) -> list[str]:
    """Questions about real passages: six words of one, in their order, as a person would half remember it."""
    chance = random.Random(11)
    made = []
    for text in chance.sample(list(passages), min(count, len(passages))):
        words = [word.strip(".,;:()[]`*#\"'") for word in text.split()]
        words = [word for word in words if len(word) > 3] or text.split()
        start = chance.randrange(max(1, len(words) - 6))
        made.append("How does " + " ".join(words[start : start + 6]) + " work?")
    return made


def _documents(connection: psycopg.Connection, *, count: int) -> list[str]:
    ids = [str(uuid4()) for _ in range(count)]
    with connection.cursor().copy(
        "COPY document (id, bu, collection, name, sha256, size, media_type, metadata, state) FROM STDIN"
    ) as copy:
        for n, identity in enumerate(ids):
            copy.write_row((identity, BU, "default", f"document {n}", "-", 1, "text/plain", json.dumps({}), "indexed"))
    return ids


def _mixed(passages: Sequence[str], vectors: np.ndarray, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """The real passages first, then mixtures: half the sentences of two passages, the mean of their vectors, and noise."""
    chance, noise = random.Random(3), np.random.default_rng(3)
    for n in range(size):
        if n < len(passages):
            yield passages[n], vectors[n]
            continue
        a, b = chance.randrange(len(passages)), chance.randrange(len(passages))
        sentences = passages[a].split(". ") + passages[b].split(". ")
        text = ". ".join(chance.sample(sentences, max(1, len(sentences) // 2)))
        share = chance.random()
        mixed = share * vectors[a] + (1 - share) * vectors[b] + noise.normal(0, 0.02, vectors.shape[1])
        yield text, (mixed / np.linalg.norm(mixed)).astype(np.float32)
