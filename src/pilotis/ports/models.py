"""The models: what embeds, what writes, what reranks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pilotis.derive.cost import Usage
from pilotis.rag.prompt import Prompt

Vectors = NDArray[np.float32]
"""Shape (texts, dimension), rows of unit length."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    name: str
    dimension: int
    languages: frozenset[str] | None
    """ISO 639-1 codes the model was trained on; None where it claims all of them."""

    async def embed(self, texts: Sequence[str]) -> Vectors: ...

    def count_tokens(self, text: str) -> int: ...

    async def close(self) -> None: ...


class Generator(Protocol):
    """Writes an answer from a prompt, piece by piece; the last item is its usage.

    A usage before that says what was consumed until then, thoughts that nobody is shown included. Each replaces the one before it.
    """

    model: str
    provider: str

    def generate(self, prompt: Prompt, *, max_tokens: int) -> AsyncIterator[str | Usage]: ...

    async def close(self) -> None: ...


class Reranker(Protocol):
    """Scores passages against a question, higher is better."""

    model: str

    async def rerank(self, question: str, passages: Sequence[str]) -> Sequence[float]: ...

    async def close(self) -> None: ...
