from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pilotis.errors import NotFound
from pilotis.online.ask import Ask
from pilotis.online.search import search
from pilotis.rag.ranking import dense_weight

if TYPE_CHECKING:
    from unit.online.conftest import World


async def test_a_search_is_metered_like_an_answer(world: World) -> None:
    results = await search(Ask(bu="legal", text="database backup", top_k=2), world.env, world.plan, world.deps)
    assert [hit.document for hit in results.hits][:1] == ["backup.md"]
    (event,) = world.settled
    assert (event.kind, event.id, event.model) == ("search", results.id, "all-MiniLM-L6-v2")
    assert results.receipt.elsewhere_eur == {}
    assert world.meter.total("rag_requests_total", kind="search", outcome="answered") == 1


async def test_filters_reach_the_index(world: World) -> None:
    await world.add("old.md", "The backup of the database of 1999.", metadata={"year": 1999})
    ask = Ask(bu="legal", text="database backup", metadata={"year": 1999})
    results = await search(ask, world.env, world.plan, world.deps)
    assert [hit.document for hit in results.hits] == ["old.md"]


async def test_a_business_unit_sees_its_own_passages_only(world: World) -> None:
    await world.add("secret.md", "The database backup password.", bu="finance")
    results = await search(Ask(bu="legal", text="database backup password"), world.env, world.plan, world.deps)
    assert "secret.md" not in [hit.document for hit in results.hits]


async def test_the_fusion_knows_which_languages_the_vectors_do(world: World) -> None:
    for text in ("Which files are refused by the server?", "Quels sont les fichiers refusés par le serveur ?"):
        await search(Ask(bu="legal", text=text), world.env, world.plan, world.deps)
    english, french = world.passages.queries
    assert english.dense_weight == dense_weight("en", world.embedder.languages)
    assert french.dense_weight == dense_weight("fr", world.embedder.languages)
    assert english.dense_weight > french.dense_weight


async def test_without_hybrid_one_list_alone_is_searched(world: World) -> None:
    env = replace(world.env, hybrid=False)
    await search(Ask(bu="legal", text="Which files are refused by the server?"), env, world.plan, world.deps)
    await search(Ask(bu="legal", text="Combien de jours de congés par an ?"), env, world.plan, world.deps)
    english, french = world.passages.queries
    assert english.dense_weight == 1
    assert english.vector is not None
    assert french.dense_weight == 0
    assert french.vector is None


async def test_passages_with_the_words_side_by_side_move_up_unless_the_contract_leaves_that_out(world: World) -> None:
    await world.add("apart.md", "Kept: the database. Of the night: a backup.")
    ask = Ask(bu="legal", text="Is the backup of the database kept?", top_k=4)
    bare = await search(ask, replace(world.env, phrases=False), world.plan, world.deps)
    assert world.passages.queries[-1].top_k == 4
    full = await search(replace(ask, text=f"{ask.text} "), world.env, world.plan, world.deps)
    assert world.passages.queries[-1].top_k >= 4
    assert full.hits[0].document == "backup.md"
    assert full.hits[0].score > next(hit.score for hit in bare.hits if hit.document == "backup.md")


async def test_the_first_passages_are_the_same_however_many_are_wanted(world: World) -> None:
    text = "How long is the backup of the database kept?"
    many = await search(Ask(bu="legal", text=text, top_k=10), world.env, world.plan, world.deps)
    few = await search(Ask(bu="legal", text=text, top_k=2), world.env, world.plan, world.deps)
    assert few.hits == many.hits[:2]


async def test_a_search_that_consumed_nothing_costs_nothing_and_holds_nothing(world: World) -> None:
    ask = Ask(bu="legal", text="Combien de jours de congés par an ?", collection="nothing")
    with pytest.raises(NotFound, match="nothing"):
        await search(ask, replace(world.env, hybrid=False), world.plan, world.deps)
    assert world.settled == []
    assert world.safe.puts == {}


async def test_the_same_search_a_moment_later_asks_neither_model_nor_index(world: World) -> None:
    ask = Ask(bu="legal", text="database backup", top_k=2)
    first = await search(ask, world.env, world.plan, world.deps)
    again = await search(replace(ask, text="Database  backup?"), world.env, world.plan, world.deps)
    assert again.hits == first.hits
    assert len(world.passages.queries) == len(world.embedder.embedded) == 1
    assert again.receipt.usages == ()
    assert len(world.settled) == 2
