"""What an evaluation is given of a question: everything that was ranked, and no cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.derive.cost import Usage
from pilotis.online.ask import Ask
from pilotis.online.whole import asker, reply
from pilotis.rag.golden import GoldenQuestion
from pilotis.testing.online import ScriptedGenerator

if TYPE_CHECKING:
    from unit.online.conftest import World

QUESTION = "How long are backups kept?"


async def test_a_reply_has_the_whole_ranking_and_each_cited_passage_once(world: World) -> None:
    world.generator = ScriptedGenerator(
        "Thirty days [1]. On a second site [1].", usage=Usage(model="scripted", provider="local")
    )
    world.changes = {"tok_in_max": 260}
    found = await reply(Ask(bu="legal", text=QUESTION), world.env, world.plan, world.deps)
    assert found.ranked[0].document == "backup.md"
    assert len(found.ranked) > 1
    assert found.cited == ("p-backup.md",)
    assert found.found
    assert found.model == "scripted"
    assert found.latency_ms > 0


async def test_an_evaluation_is_paid_for_each_time_and_by_the_batch_plane(world: World) -> None:
    world.generator = ScriptedGenerator("Thirty days [1].")
    world.changes = {"cache_ttl_s": 600}
    ask = asker(world.env, world.plan, world.deps, bu="legal")
    await world.answer(QUESTION)
    for _ in range(2):
        await ask(GoldenQuestion(id="q", text=QUESTION))
    assert len(world.generator.prompts) == 3, "no answer came from the cache"
    assert [(event.plane, event.kind) for event in world.settled] == [
        ("online", "answer"),
        ("batch", "eval"),
        ("batch", "eval"),
    ]


async def test_an_evaluation_leaves_nothing_for_callers(world: World) -> None:
    world.generator = ScriptedGenerator("Thirty days [1].")
    world.changes = {"cache_ttl_s": 600}
    await reply(Ask(bu="legal", text=QUESTION), world.env, world.plan, world.deps)
    assert not world.safe.answers
    assert not world.safe.passages
    answered, _ = await world.answer(QUESTION)
    assert answered.cache == "miss"
