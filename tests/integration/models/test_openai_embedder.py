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

from pilotis.adapters.openai import OpenAIEmbedder
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
