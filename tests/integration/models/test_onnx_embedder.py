"""The local model with its real weights."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pilotis.adapters.onnx import OnnxEmbedder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REFERENCE = {
    "What does a request cost?": [-0.05244, 0.05957, -0.0221, -0.01508, -0.03638, -0.04512, 0.03972, 0.03172],
    "The roof stands on thin columns, so the garden goes on beneath the house.": [
        *(0.01081, 0.10753, -0.05257, -0.03766, 0.06701, -0.06371, -0.02715, -0.00142)
    ],
    "one two three four five six seven eight nine ten " * 60: [
        *(-0.00537, 0.01174, 0.01961, -0.01725, -0.06526, 0.04402, 0.04414, -0.02128)
    ],
    "": [-0.11884, 0.0483, -0.00255, -0.01101, 0.05195, 0.01029, 0.11543, 0.0007],
}
"""First components of sentence-transformers 6.2, `encode(..., normalize_embeddings=True)`; the third text is cut at 256 tokens."""

MIXED = [f"{'The roof stands on thin columns. ' * (n % 23)}Sentence {n}." for n in range(60)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def embedder(cache: Path) -> AsyncIterator[OnnxEmbedder]:
    opened = OnnxEmbedder(cache, 2)
    yield opened
    await opened.close()


async def test_the_vectors_are_those_of_sentence_transformers(embedder: OnnxEmbedder) -> None:
    vectors = await embedder.embed(list(REFERENCE))
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:, :8], list(REFERENCE.values()), atol=1.5e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


async def test_a_text_has_one_vector_whatever_it_is_batched_with(embedder: OnnxEmbedder) -> None:
    together = await embedder.embed(MIXED)
    alone = np.concatenate([await embedder.embed([text]) for text in MIXED])
    assert np.all(np.sum(together * alone, axis=1) > 1 - 1e-6)
    np.testing.assert_array_equal(together, await embedder.embed(MIXED))


async def test_odd_texts(embedder: OnnxEmbedder) -> None:
    vectors = await embedder.embed(["a\ud800b", "nul\0byte", "x " * 500_000, "é" * 5000, "\n\t"])
    assert np.all(np.isfinite(vectors))
    assert (await embedder.embed([])).shape == (0, 384)


async def test_tokens_are_counted_in_the_whole_text_and_without_frame(embedder: OnnxEmbedder) -> None:
    assert [embedder.count_tokens(text) for text in ("", "hello world", "word " * 1000)] == [0, 2, 1000]


async def test_a_question_goes_before_what_remains_of_a_batch(embedder: OnnxEmbedder) -> None:
    batch = asyncio.create_task(embedder.embed(["The roof stands on thin columns. " * 35] * 64))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await embedder.embed(["What holds the roof?"])
    waited_s = time.monotonic() - began
    assert not batch.done()
    began = time.monotonic()
    await batch
    assert waited_s < time.monotonic() - began, "the question did not wait for the batch"


async def test_a_batch_that_is_cancelled_frees_the_model(embedder: OnnxEmbedder) -> None:
    batch = asyncio.create_task(embedder.embed(["The roof stands on thin columns. " * 35] * 500))
    await asyncio.sleep(0.5)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    began = time.monotonic()
    await embedder.embed(["one"] * 4)
    assert time.monotonic() - began < 2


def test_processes_that_start_together_share_one_folder(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys; from pilotis.adapters.onnx import OnnxEmbedder; "
        "print(asyncio.run(OnnxEmbedder(pathlib.Path(sys.argv[1]), 1).embed(['a'])).shape)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.strip()) == (0, "(1, 384)"), err
    assert len(list(tmp_path.iterdir())) == 1
