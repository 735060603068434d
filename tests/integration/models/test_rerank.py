"""Scores over /rerank."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from pilotis.adapters.rerank import HttpReranker
from pilotis.errors import Permanent, PilotisError, SetupError, Transient

unique = itertools.count()
Open = Callable[[str], HttpReranker]


@pytest.fixture
async def reranker(provider: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        def build(behaviour: str) -> HttpReranker:
            model = f"mock-{behaviour}-r{next(unique)}"
            built = HttpReranker(
                model=model, base_url=f"{provider}/v1", key="k", key_env="MY_KEY", total_s=1.5 if "slow" in model else 10
            )
            opened.push_async_callback(built.close)
            return built

        yield build


async def test_scores_come_in_the_order_of_the_passages(reranker: Open) -> None:
    scores = await reranker("plain").rerank("thin columns hold", ["nothing", "columns", "thin columns hold a roof"])
    assert scores == [0.0, pytest.approx(1 / 3), 1.0]


async def test_no_passages_no_request(reranker: Open) -> None:
    assert await reranker("500").rerank("anything", []) == []


async def test_a_passing_failure_is_tried_again(reranker: Open) -> None:
    assert await reranker("503x1").rerank("a", ["a"]) == [1.0]


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        ("403", SetupError, "refused the key"),
        ("404", Permanent, "is not there"),
        ("short", Permanent, "1 scores for 2 passages"),
        ("shape", Permanent, "KeyError"),
        ("nan", Permanent, "scores"),
        ("html", Permanent, "not the OpenAI protocol"),
        ("500", Transient, "failed"),
        ("slow", Transient, "within 1.5 s"),
    ],
)
async def test_failures(reranker: Open, behaviour: str, kind: type[PilotisError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        await reranker(behaviour).rerank("thin columns", ["thin", "columns"])
    assert caught.value.remedy


@pytest.mark.parametrize("behaviour", ["data", "list"])
async def test_scores_are_read_as_voyage_and_tei_write_them(reranker: Open, behaviour: str) -> None:
    assert await reranker(behaviour).rerank("thin columns", ["thin", "nothing"]) == [0.5, 0.0]


async def test_more_passages_than_the_server_takes_go_in_several_requests(reranker: Open) -> None:
    given = reranker("most3")
    passages = ["thin", "columns", "thin columns"] * 4
    assert await given.rerank("thin columns", passages) == [0.5, 0.5, 1.0] * 4
    assert await given.rerank("thin columns", passages) == [0.5, 0.5, 1.0] * 4


async def test_a_passage_that_is_too_long_is_read_to_where_it_fits(reranker: Open) -> None:
    scores = await reranker("chars2000").rerank("thin columns", ["thin " + "x" * 7000 + " columns", "thin columns"])
    assert scores == [0.5, 1.0]
