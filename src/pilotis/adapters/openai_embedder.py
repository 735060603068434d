"""Vectors from any OpenAI-compatible server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotis.adapters.breaker import Breaker
from pilotis.adapters.openai_client import Remote, estimate_tokens, is_about_length, refused, retried
from pilotis.errors import Permanent, SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.ports import Vectors

SHORTEST_CUT = 500
"""Characters below which a text that is refused for its length is not cut further: something else is wrong."""


class OpenAIEmbedder:
    """Vectors from `/v1/embeddings`, at most `batch` texts a request, `total_s` seconds for each.

    What a server takes is learnt from what it refuses, for as long as the process lives: a batch that is too large is halved, and
    later ones are no larger; a model whose vectors are longer than `dimension` is asked for that many numbers (`dimensions`);
    `encoding_format` goes from float to base64. A text that is too long for the model by itself is cut by halves until it fits,
    as the local model cuts it. Blank texts, which servers refuse, are sent as one full stop.

    Raises SetupError where the key is refused or the vectors are not of `dimension`, Transient and Permanent as `OpenAIGenerator`.
    """

    languages: frozenset[str] | None = None

    def __init__(
        self,
        *,
        model: str,
        dimension: int,
        base_url: str | None,
        key: str | None,
        key_env: str | None = None,
        breaker: Breaker | None = None,
        total_s: float = 60.0,
        batch: int = 128,
    ) -> None:
        self.name = model
        self.dimension = dimension
        self._remote = Remote(model=model, base_url=base_url, key=key, key_env=key_env, breaker=breaker or Breaker())
        self._total_s = total_s
        self._batch = batch
        self._client = self._remote.open(total_s=total_s)
        self._options: dict[str, Any] = {"encoding_format": "float"}
        self._cuts = self._sent_bytes = self._charged_tokens = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 of shape (texts, dimension), rows of unit length in the order of the texts."""
        pieces: list[Vectors] = [np.empty((0, self.dimension), np.float32)]
        start = 0
        while start < len(texts):
            some = texts[start : start + self._batch]
            pieces.append(await self._fitted([text if text.strip() else "." for text in some]))
            start += len(some)
        return np.concatenate(pieces)

    def count_tokens(self, text: str) -> int:
        """Estimate, by what the server charged so far for a byte: its tokenizer is not known here."""
        if not self._charged_tokens:
            return estimate_tokens(text)
        return math.ceil(_bytes(text) * self._charged_tokens / self._sent_bytes)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _fitted(self, texts: list[str]) -> Vectors:
        """The vectors, in as many requests as the server wants."""
        try:
            return await self._request(texts)
        except Permanent as error:
            refusal = refused(error)
            if refusal is None:
                raise
            if self._gives_way(refusal.message):
                return await self._fitted(texts)
            if len(texts) == 1:
                if len(texts[0]) < 2 * SHORTEST_CUT or not is_about_length(refusal):
                    raise
                self._cuts += 1
                return await self._fitted([texts[0][: len(texts[0]) // 2]])
        half = len(texts) // 2
        cuts = self._cuts
        both = np.concatenate([await self._fitted(texts[:half]), await self._fitted(texts[half:])])
        if self._cuts == cuts:  # else it was the length of one of them, not how many they are
            self._batch = min(self._batch, len(texts) - half)
        return both

    def _gives_way(self, said: str) -> bool:
        """Change what the server refuses by name; False where it did not, or was changed already."""
        # Left out, the SDK asks for base64 and decodes it.
        return "encoding_format" in said and self._options.pop("encoding_format", None) is not None

    async def _request(self, texts: list[str]) -> Vectors:
        async def attempt() -> list[list[float]]:
            answer = await self._client.embeddings.create(model=self.name, input=texts, **self._options)
            rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
            if answer.usage is not None and answer.usage.prompt_tokens:  # some servers leave it out
                self._sent_bytes += sum(map(_bytes, texts))
                self._charged_tokens += answer.usage.prompt_tokens
            return rows

        rows = await retried(attempt, self._remote, within_s=self._total_s)
        lengths = {len(row) for row in rows}
        if len(rows) != len(texts) or len(lengths) != 1:
            raise Permanent(
                self._remote.says(f"returned {len(rows)} vectors for {len(texts)} texts, of lengths {sorted(lengths)}"),
                remedy="check that base_url and the model's name point at an embedding model",
            )
        (length,) = lengths
        return _unit(rows, self._remote) if length == self.dimension else await self._shortened(texts, length)

    async def _shortened(self, texts: list[str], length: int) -> Vectors:
        """Ask for vectors of our length; they must come, for to cut them ourselves is right for few models."""
        wrong = SetupError(
            self._remote.says(f"returns vectors of {length} numbers, the contract says {self.dimension}"),
            remedy=f"set the embedder's dimension to {length} in the contract",
        )
        if length < self.dimension or "dimensions" in self._options:
            raise wrong
        self._options["dimensions"] = self.dimension
        try:
            return await self._request(texts)
        except (Permanent, SetupError) as error:
            del self._options["dimensions"]
            if isinstance(error, Permanent) and refused(error) is None:
                raise
            raise wrong from error


def _unit(rows: list[list[float]], remote: Remote) -> Vectors:
    vectors = np.asarray(rows, np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
        raise Permanent(
            remote.says("returned a vector without direction"),
            remedy="check the model's server: its vectors hold zeros, NaN or infinity only",
        )
    return np.asarray(vectors / norms, np.float32)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
