"""Models as a trace shows them: a span for each call, under the stage that makes it, with what it consumed. They hold no connection."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import cast

from pilotis.derive import genai
from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env
from pilotis.ports import Deps, Embedder, Generator, Reranker, Vectors, trace
from pilotis.ports.trace import Span
from pilotis.rag.prompt import Prompt


def traced(deps: Deps, env: Env) -> Deps:
    """The same with its models traced."""
    reranker = env.reranker.provider if env.reranker else "local"
    return replace(
        deps,
        embedder=TracedEmbedder(deps.embedder, env.embedder.provider),
        generators={model: TracedGenerator(generator) for model, generator in deps.generators.items()},
        reranker=TracedReranker(deps.reranker, reranker) if deps.reranker else None,
    )


class TracedEmbedder:
    """An embedder whose calls are spans."""

    def __init__(self, embedder: Embedder, provider: str) -> None:
        self._embedder, self._provider = embedder, provider
        self.name, self.dimension, self.languages = embedder.name, embedder.dimension, embedder.languages
        self.count_tokens = embedder.count_tokens
        self.close = embedder.close

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if not trace.current().is_traced:
            return await self._embedder.embed(texts)
        with _call("embeddings", self.name, self._provider) as span:
            span.note({genai.TEXTS: len(texts)})
            vectors = await self._embedder.embed(texts)
            span.note({genai.INPUT_TOKENS: sum(map(self.count_tokens, texts))})
            return vectors


class TracedReranker:
    """A reranker whose calls are spans."""

    def __init__(self, reranker: Reranker, provider: str) -> None:
        self._reranker, self._provider = reranker, provider
        self.model = reranker.model
        self.close = reranker.close

    async def rerank(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        with _call("rerank", self.model, self._provider) as span:
            span.note({genai.TEXTS: len(passages)})
            return await self._reranker.rerank(question, passages)


class TracedGenerator:
    """A generator each of whose answers is a span, from the first wait for a piece to the end of the last."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.model, self.provider = generator.model, generator.provider
        self.close = generator.close

    async def generate(self, prompt: Prompt, *, max_tokens: int) -> AsyncIterator[str | Usage]:
        stream = self._generator.generate(prompt, max_tokens=max_tokens)
        # Every generator is one with `aclose`; the port asks for less.
        async with aclosing(cast("AsyncGenerator[str | Usage, None]", stream)) as items:
            with _call("chat", self.model, self.provider) as span:
                span.note({genai.MAX_TOKENS: max_tokens})
                span.content({genai.SYSTEM_TEXT: prompt.system, genai.INPUT_TEXT: _message("user", prompt.user)})
                written: list[str] = []
                async for item in items:
                    if isinstance(item, Usage):
                        span.note(genai.usage(item))
                    elif span.is_traced:
                        written.append(item)
                    yield item
                span.content({genai.OUTPUT_TEXT: _message("assistant", "".join(written))})


@contextmanager
def _call(operation: genai.Operation, model: str, provider: str) -> Iterator[Span]:
    """A span under the current one, which stays the current one: a generator's steps may run in other contexts than its first."""
    span = trace.current().child(f"{operation} {model}", kind="client")
    span.note(genai.call(operation, model=model, provider=provider))
    try:
        yield span
    except BaseException as error:  # told and raised again; a stream closed early ends with GeneratorExit, which is no failure
        span.end(error=type(error).__name__ if isinstance(error, Exception) else None)
        raise
    span.end()


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)
