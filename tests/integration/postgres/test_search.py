from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters import postgres
from pilotis.ports import Document, Generation, Hit, NewDocument, Query
from pilotis.rag.lexical import passage_weights
from pilotis.rag.passage import Cut, Parsed

DIMENSION = 8


class Model:
    name, dimension, languages = "axes", DIMENSION, None


class Index:
    """Documents of one passage each, whose vectors lie on the axes given."""

    def __init__(self, pool: AsyncConnectionPool, generation: Generation) -> None:
        self.documents = postgres.PostgresDocuments(pool, generation)
        self.passages = postgres.PostgresPassages(pool, generation, languages=("en", "fr"))

    async def add(
        self,
        text: str,
        axis: int,
        *,
        bu: str = "bu",
        language: str = "en",
        collection: str = "c",
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        digest = sha256(text.encode()).hexdigest()
        new = NewDocument(
            bu=bu,
            collection=collection,
            name=text[:40],
            sha256=digest,
            size=len(text),
            media_type="text/plain",
            metadata=metadata or {},
        )
        document, _ = await self.documents.register(new)
        claim = await self.documents.claim(lease_s=60)
        assert claim is not None
        piece = Cut(
            id=f"{bu}{digest[:30]}", ordinal=0, text=text, start=0, end=len(text), page=None, headings=(), language=language
        )
        await self.documents.stage(claim, Parsed(text=text, title=None), [piece])
        await self.documents.publish([(pending, vector(axis)) for pending in await self.documents.pending(10, lease_s=30)])
        return document

    async def search(
        self, text: str, axis: int | None = None, *, bu: str = "bu", language: str = "en", **more: Any
    ) -> Sequence[Hit]:
        at = None if axis is None else vector(axis)
        return await self.passages.search(Query(bu=bu, text=text, language=language, vector=at, top_k=10, **more))


def vector(axis: int) -> np.ndarray:
    made = np.full(DIMENSION, 0.05, np.float32)
    made[axis] = 1
    return made / np.linalg.norm(made)


@pytest.fixture
async def index(pool: AsyncConnectionPool) -> Index:
    return Index(pool, await postgres.open_generation(pool, Model()))  # type: ignore[arg-type]


async def test_a_rare_word_outweighs_common_ones(index: Index) -> None:
    for n in range(8):
        await index.add(f"The server restarts the worker and the queue number{n}", 0)
    await index.add("The pgvector extension", 0)
    hits = await index.search("does the server worker queue use pgvector")
    assert hits[0].text == "The pgvector extension" or hits[0].lexical > 0
    by_text = {hit.text: hit.lexical for hit in await index.search("server pgvector")}
    assert by_text["The pgvector extension"] > max(value for text, value in by_text.items() if "server" in text)


async def test_the_lexical_score_is_bm25_with_the_idf_of_lucene(index: Index) -> None:
    """Two passages of which one holds the word: ln(1 + (2 - 1 + 0.5) / (1 + 0.5)) times the term's weight."""
    await index.add("zebra", 0)
    await index.add("giraffe", 0)
    (hit,) = [hit for hit in await index.search("zebra") if hit.lexical]
    (weight,) = passage_weights("zebra", language="en", scope="bu").values()
    assert hit.lexical == pytest.approx(math.log(2) * weight, rel=1e-5)


async def test_in_a_corpus_of_one_passage_words_still_count_for_it(index: Index) -> None:
    await index.add("the only passage about zebras", 0)
    (hit,) = await index.search("zebras", 0)
    assert hit.lexical > 0
    assert hit.score == pytest.approx(1)


async def test_each_candidate_carries_both_scores_whichever_list_it_came_from(index: Index) -> None:
    await index.add("alpha only words", 0)
    await index.add("beta only vectors", 3)
    hits = {hit.text: hit for hit in await index.search("alpha", 3, dense_weight=0.45)}
    assert hits["alpha only words"].lexical > 0
    assert 0 < hits["alpha only words"].dense < 0.5
    assert hits["beta only vectors"].lexical == 0
    assert hits["beta only vectors"].dense == pytest.approx(1, abs=0.01)
    assert hits["alpha only words"].score == pytest.approx(
        0.55 + 0.45 * hits["alpha only words"].dense / hits["beta only vectors"].dense, abs=0.01
    )


async def test_french_and_english_passages_are_found_by_their_own_stemming(index: Index) -> None:
    await index.add("Les paramètres de requête sont déclarés", 0, language="fr")
    await index.add("Query parameters are declared", 0)
    french = await index.search("déclarer un paramètre", language="fr")
    assert french[0].language == "fr"
    english = await index.search("declaring a parameter")
    assert english[0].language == "en"


async def test_a_business_unit_finds_only_its_own(index: Index) -> None:
    await index.add("our secret figures", 0, bu="ours")
    await index.add("their secret figures", 0, bu="theirs")
    assert [hit.text for hit in await index.search("secret figures", 0, bu="ours")] == ["our secret figures"]
    assert await index.search("secret figures", 0, bu="nobody") == []


async def test_filters_by_collection_and_metadata(index: Index) -> None:
    await index.add("budget of 2024", 0, collection="old", metadata={"year": 2024, "draft": False})
    await index.add("budget of 2025", 0, collection="new", metadata={"year": 2025, "draft": False})
    assert {hit.text for hit in await index.search("budget", 0)} == {"budget of 2024", "budget of 2025"}
    assert [hit.text for hit in await index.search("budget", 0, collection="new")] == ["budget of 2025"]
    assert [hit.text for hit in await index.search("budget", 0, metadata={"year": 2024})] == ["budget of 2024"]
    assert await index.search("budget", 0, metadata={"year": 2024, "draft": True}) == []


async def test_a_filter_behind_many_nearer_passages_still_finds(index: Index) -> None:
    for n in range(120):
        await index.add(f"filler{n} near", 0)
    await index.add("wanted far", 1, metadata={"keep": "yes"})
    hits = await index.search("zzz", 0, metadata={"keep": "yes"})
    assert [hit.text for hit in hits] == ["wanted far"]


async def test_deleting_leaves_no_trace_in_any_table(index: Index, pool: AsyncConnectionPool) -> None:
    kept = await index.add("kept words stay", 0)
    gone = await index.add("deleted words go", 1)
    await index.documents.delete("bu", gone.id)
    assert {hit.document_id for hit in await index.search("words", 1)} == {kept.id}
    await index.documents.delete("bu", kept.id)
    freed: list[str] = []

    async def drop(sha256: str) -> None:
        freed.append(sha256)

    assert await index.documents.reclaim(drop) == 2
    assert set(freed) == {kept.sha256, gone.sha256}
    async with pool.connection() as connection:
        for table in ("document", "draft", "passage", "entry", "lexeme", "corpus", "blob"):
            row = await (await connection.execute(f"SELECT count(*) FROM {table}".encode())).fetchone()
            assert row == (0,), table


async def test_questions_of_only_stop_words_or_odd_characters_do_not_break(index: Index) -> None:
    await index.add("anything", 0)
    for text in ("the of and", "?!…", "'; DROP TABLE entry; --", "{1:2}/3", "%s %(bu)s"):
        assert len(await index.search(text, 0)) == 1
        assert await index.search(text) == []
