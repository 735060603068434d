"""Vectors over /v1/embeddings."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from pilotis.adapters.openai_embedder import OpenAIEmbedder
from pilotis.errors import Permanent, PilotisError, SetupError, Transient

unique = itertools.count()
Open = Callable[..., OpenAIEmbedder]


@pytest.fixture
async def embedder(provider: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        def build(behaviour: str = "", **changed: Any) -> OpenAIEmbedder:
            given: dict[str, Any] = {
                "model": f"mock-{behaviour}-e{next(unique)}",
                "dimension": 8,
                "base_url": f"{provider}/v1",
                "key": "k",
                "key_env": "MY_KEY",
            }
            built = OpenAIEmbedder(**{**given, **changed})
            opened.push_async_callback(built.close)
            return built

        yield build


def requests(provider: str, embedder: OpenAIEmbedder) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{provider}/seen/{embedder.name}") as answer:
        found: list[dict[str, Any]] = json.load(answer)["requests"]
        return found


async def test_vectors_are_unit_float32_in_order_whatever_the_batch(embedder: Open, provider: str) -> None:
    texts = [f"text {n}" for n in range(10)]
    one, three = embedder(batch=100), embedder(batch=3)
    whole, pieces = await one.embed(texts), await three.embed(texts)
    assert whole.shape == (10, 8)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(whole, pieces)
    assert len({row.tobytes() for row in whole}) == 10
    assert [len(body["input"]) for body in requests(provider, three)] == [3, 3, 3, 1]


async def test_no_text_and_blank_text(embedder: Open) -> None:
    given = embedder()
    assert (await given.embed([])).shape == (0, 8)
    assert (await given.embed(["", "  \n", "."])).shape == (3, 8)


async def test_another_dimension_than_the_contracts_says_both(embedder: Open) -> None:
    with pytest.raises(SetupError, match="vectors of 12 numbers, the contract says 8") as caught:
        await embedder("dim12").embed(["a"])
    assert "12" in caught.value.remedy


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        ("401", SetupError, "refused the key"),
        ("404", Permanent, "is not there"),
        ("429", Transient, "overloaded"),
        ("short", Permanent, "1 vectors for 2 texts"),
        ("zero", Permanent, "without direction"),
        ("html", Permanent, "not the OpenAI protocol"),
        ("slow", Transient, "within 1.5 s"),
    ],
)
async def test_failures(embedder: Open, behaviour: str, kind: type[PilotisError], says: str) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=says) as caught:
        await embedder(behaviour, total_s=1.5).embed(["a", "b"])
    assert caught.value.remedy
    assert time.monotonic() - began < 3


async def test_a_passing_failure_is_tried_again(embedder: Open) -> None:
    assert (await embedder("500x2").embed(["a"])).shape == (1, 8)


async def test_a_batch_that_is_too_large_is_halved_and_later_ones_are_no_larger(embedder: Open, provider: str) -> None:
    texts = [f"text {n}" for n in range(20)]
    given = embedder("most5", batch=20)
    np.testing.assert_allclose(await given.embed(texts), await embedder().embed(texts))
    sizes = [len(body["input"]) for body in requests(provider, given)]
    assert sizes == [20, 10, 5, 5, 10, 5, 5]
    await given.embed(texts)
    assert [len(body["input"]) for body in requests(provider, given)][len(sizes) :] == [5, 5, 5, 5]


async def test_a_text_that_is_too_long_is_cut_and_keeps_its_neighbours(embedder: Open, provider: str) -> None:
    long = "passage " * 1000
    given = embedder("chars3000")
    vectors = await given.embed(["short", long, "other"])
    fitting = long[:2000]
    np.testing.assert_allclose(vectors, await embedder().embed(["short", fitting, "other"]))
    await given.embed(["a", "b", "c"])
    assert [len(body["input"]) for body in requests(provider, given)][-1] == 3, "it was the text's length, not the batch's"


async def test_a_refusal_that_no_cut_helps_ends_after_a_few_requests(embedder: Open, provider: str) -> None:
    given = embedder("400")
    with pytest.raises(Permanent, match="refused the request"):
        await given.embed([f"text {n} " * 200 for n in range(64)])
    assert len(requests(provider, given)) <= 8


async def test_a_model_with_longer_vectors_is_asked_for_shorter_ones(embedder: Open, provider: str) -> None:
    given = embedder("dims-dim32")
    assert (await given.embed(["a", "b"])).shape == (2, 8)
    assert (await given.embed(["c"])).shape == (1, 8)
    assert [body.get("dimensions") for body in requests(provider, given)] == [None, 8, 8]


async def test_shorter_vectors_than_the_contracts_cannot_be_asked_for(embedder: Open, provider: str) -> None:
    given = embedder("dims-dim4")
    with pytest.raises(SetupError, match="vectors of 4 numbers"):
        await given.embed(["a"])
    assert len(requests(provider, given)) == 1


async def test_a_server_without_the_format_float_gets_the_other(embedder: Open, provider: str) -> None:
    given = embedder("nofloat")
    np.testing.assert_allclose(await given.embed(["a", "b"]), await embedder().embed(["a", "b"]), atol=1e-6)
    await given.embed(["c"])
    assert [body["encoding_format"] for body in requests(provider, given)] == ["float", "base64", "base64"]


async def test_tokens_are_counted_as_the_server_charges_them(embedder: Open) -> None:
    text = "one hundred bytes " * 10
    given, silent = embedder("per2"), embedder("per2-nousage")
    assert given.count_tokens(text) == 45
    await given.embed([text] * 4)
    assert given.count_tokens(text) == 90
    await silent.embed([text])
    assert silent.count_tokens(text) == 45
