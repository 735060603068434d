"""The models of an env, each by the adapter of who serves it, with the key that its variable holds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pilotis.adapters.breaker import Breaker
from pilotis.contract.presets import PROVIDERS
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pilotis.contract.infra import Secrets
    from pilotis.derive.plan import Embedding, Env, Llm
    from pilotis.ports import Embedder, Generator, Meter, Reranker, Vectors


Watch = Callable[[str, float], None]
"""Told a model's name, and 1 while it is left alone because it keeps failing, 0 when it answers again."""


Models = tuple["Embedder", "Mapping[str, Generator]", "Reranker | None"]
"""Who embeds, who writes, by model, and who reranks."""


async def open_models(
    env: Env, environ: Mapping[str, str], meter: Meter, *, cache: Path, batch: bool, asks: bool, embeds: bool
) -> Models:
    """Those that a process needs: who never asks has nobody who writes or reranks. Raises SetupError for a key that is missing."""

    def watch(model: str, is_open: float) -> None:
        meter.gauge("rag_breaker_open", is_open, model=model)

    embedder: Embedder = NoEmbedder(env.embedder)
    if embeds:
        embedder = await asyncio.to_thread(open_embedder, env, environ, cache=cache, batch=batch, watch=watch)
    if not asks:
        return embedder, {}, None
    try:
        return embedder, open_generators(env, environ, embedder, watch), open_reranker(env, environ, watch)
    except SetupError:
        await embedder.close()
        raise


def require_keys(env: Env, environ: Mapping[str, str], *, asks: bool, embeds: bool, kept: Secrets | None = None) -> None:
    """Raises SetupError for the first key that is missing, before anything is opened. `kept` says where it was looked for, too."""
    needed = [env.embedder] if embeds else []
    writers = [env.llm, env.compact, env.fallback, env.reranker if env.rerank else None] if asks else []
    for model in (*needed, *writers):
        if model is not None and model.provider != "local":
            _key(model, environ, kept)


def closing(models: Models) -> Sequence[Embedder | Generator | Reranker]:
    """All of them, in the order in which they were opened."""
    embedder, generators, reranker = models
    return [embedder, *generators.values(), *([reranker] if reranker else [])]


def open_embedder(env: Env, environ: Mapping[str, str], *, cache: Path, batch: bool, watch: Watch) -> Embedder:
    """Takes about 0.1 s where it is the local model, which lies unpacked in `cache`. Raises SetupError for a key that is missing."""
    wanted = env.embedder
    if wanted.provider == "local":
        from pilotis.adapters.onnx import OnnxEmbedder

        return OnnxEmbedder(cache, min(2, _cores()), spin=not batch)
    from pilotis.adapters.openai_embedder import OpenAIEmbedder

    return OpenAIEmbedder(
        model=wanted.model,
        dimension=wanted.dimension,
        base_url=wanted.base_url,
        key=_key(wanted, environ),
        key_env=wanted.key_env,
        breaker=_breaker(wanted, watch),
    )


class NoEmbedder:
    """Stands where nothing is embedded: it knows which model the index is of, and loads none (100 MB less)."""

    languages: frozenset[str] | None = None

    def __init__(self, wanted: Embedding) -> None:
        self.name, self.dimension = wanted.model, wanted.dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        raise SetupError(f"this process does not embed, and was given {len(texts)} texts", remedy="report it with the log")

    def count_tokens(self, text: str) -> int:
        return len(text) // 4

    async def close(self) -> None:
        """Nothing to close."""


def open_generators(env: Env, environ: Mapping[str, str], embedder: Embedder, watch: Watch) -> dict[str, Generator]:
    """Everybody who may write: the env's model, its compact one, its fallback. What is extractive needs none. Raises SetupError."""
    writers = (llm for llm in (env.llm, env.compact, env.fallback) if llm and llm.provider != "local")
    return {llm.model: _generator(env, llm, environ, embedder, watch) for llm in writers}


def open_reranker(env: Env, environ: Mapping[str, str], watch: Watch) -> Reranker | None:
    """None where the env reranks nothing, or names nobody for it. Raises SetupError."""
    model = env.reranker
    if not env.rerank or model is None:
        return None
    from pilotis.adapters.rerank import COHERE_URL, HttpReranker

    # Cohere reranks at another address than the one where it speaks OpenAI's protocol.
    native = model.provider == "cohere" and model.base_url == PROVIDERS["cohere"].base_url
    return HttpReranker(
        model=model.model,
        base_url=COHERE_URL if native else model.base_url,
        key=_key(model, environ),
        key_env=model.key_env,
        breaker=_breaker(model, watch),
    )


def _generator(env: Env, llm: Llm, environ: Mapping[str, str], embedder: Embedder, watch: Watch) -> Generator:
    from pilotis.adapters.openai import OpenAIGenerator

    return OpenAIGenerator(
        model=llm.model,
        provider=llm.provider,
        base_url=llm.base_url,
        key=_key(llm, environ),
        key_env=llm.key_env,
        breaker=_breaker(llm, watch),
        first_byte_s=env.first_byte_s,
        total_s=env.total_s,
        count_tokens=embedder.count_tokens,
    )


def _breaker(model: Llm | Embedding, watch: Watch) -> Breaker:
    watch(model.model, 0)
    return Breaker(watch=partial(watch, model.model))


def _key(model: Llm | Embedding, environ: Mapping[str, str], kept: Secrets | None = None) -> str | None:
    if model.key_env is None:
        return None
    key = environ.get(model.key_env, "").strip()
    if not key:
        elsewhere = (
            f", nor kept as {kept.path}/{model.key_env} ({kept.provider})" if kept and kept.provider != "environment" else ""
        )
        raise SetupError(
            f"{model.model} needs a key, and {model.key_env} is not set in the environment{elsewhere}",
            remedy=f"put it there, or export {model.key_env}=YOUR-KEY" if elsewhere else f"export {model.key_env}=YOUR-KEY",
        )
    return key


def _cores() -> int:
    """That this process may use: threads that wait awake for one another must not outnumber them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
