"""What is known before anybody writes a contract: the matrix of dev, staging and prod, the common providers, the default contract."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from pilotis.contract.costs import Costs
from pilotis.contract.model import EXTRACTIVE, Contract, EmbedderEndpoint, Endpoint, EnvSection

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL_EMBEDDER = EmbedderEndpoint(model="all-MiniLM-L6-v2", provider="local", dimension=384)


def _row(llm: str, top_k: int, flags: tuple[str, ...], cache_ttl_s: int, trace_sampling: str, *, rps: int) -> EnvSection:
    return EnvSection(
        llm=Endpoint(model=llm),
        top_k=top_k,
        flags=flags,
        cache_ttl_s=cache_ttl_s,
        trace_sampling=Decimal(trace_sampling),
        embedder=LOCAL_EMBEDDER,
        rps=Decimal(rps),
    )


MATRIX: Mapping[str, EnvSection] = MappingProxyType(
    {
        "dev": _row("gpt-5-mini", 20, ("hybrid",), 60, "0.50", rps=10),
        "staging": _row("gpt-5-mini", 30, ("hybrid", "rerank"), 120, "0.25", rps=10),
        "prod": _row("gpt-5-pro", 50, ("hybrid", "rerank"), 300, "0.10", rps=50),
    }
)
"""The specification's configuration matrix. An env of any other name starts from the row of dev."""


def default() -> Contract:
    """The contract in force where no file is given: the matrix, with answers that need no key and no network in dev."""
    envs = {name: EnvSection() for name in MATRIX} | {"dev": EnvSection(llm=Endpoint(model=EXTRACTIVE))}
    return Contract(envs=envs, costs=Costs(target_eur_per_1k=Decimal("16.5"), guardrail_eur_per_req=Decimal("0.02")))


@dataclass(frozen=True, slots=True)
class Provider:
    """How a provider is reached: `base_url` is None where its client knows the address."""

    base_url: str | None
    key_env: str


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "openai": Provider(None, "OPENAI_API_KEY"),
        "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        "cohere": Provider("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"),
        "deepseek": Provider("https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        "google": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
        "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        "jina": Provider("https://api.jina.ai/v1", "JINA_API_KEY"),
        "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        "voyage": Provider("https://api.voyageai.com/v1", "VOYAGE_API_KEY"),
    }
)
"""Providers whose OpenAI-compatible address and usual key variable are known, so that a model's name alone is enough."""

PREFIXES: tuple[tuple[str, str], ...] = (
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("mistral", "mistral"),
    ("ministral", "mistral"),
    ("magistral", "mistral"),
    ("codestral", "mistral"),
    ("deepseek-", "deepseek"),
    ("command", "cohere"),
    ("embed-", "cohere"),
    ("rerank-1", "voyage"),
    ("rerank-2", "voyage"),
    ("rerank-lite", "voyage"),
    ("rerank-", "cohere"),
    ("voyage-", "voyage"),
    ("jina-", "jina"),
)
"""First match gives the provider of a model named without one; no match means openai."""

DIMENSIONS: Mapping[str, int] = MappingProxyType(
    {
        "all-MiniLM-L6-v2": 384,
        "text-embedding-3-small": 1536,
        "text-embedding-3-large": 3072,
        "text-embedding-ada-002": 1536,
        "mistral-embed": 1024,
        "embed-v4.0": 1536,
        "embed-multilingual-v3.0": 1024,
        "embed-english-v3.0": 1024,
        "jina-embeddings-v3": 1024,
        "voyage-3.5": 1024,
        "voyage-3.5-lite": 1024,
        "voyage-3-large": 1024,
    }
)
"""Length of the vectors of common embedding models, as their makers document it."""
