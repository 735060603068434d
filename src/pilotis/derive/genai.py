"""The attributes of spans: OpenTelemetry's names for generative AI, as of semantic conventions 1.43, and ours. These move from
version to version: they are pinned here, and nowhere else is one written.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pilotis.derive.cost import Usage

OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
REQUEST_MODEL, RESPONSE_MODEL = "gen_ai.request.model", "gen_ai.response.model"
MAX_TOKENS = "gen_ai.request.max_tokens"
INPUT_TOKENS, OUTPUT_TOKENS = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
SYSTEM_TEXT, INPUT_TEXT, OUTPUT_TEXT = "gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages"

METHOD, ROUTE, STATUS = "http.request.method", "http.route", "http.response.status_code"
ERROR = "error.type"

COST, SAVED = "rag.cost_eur", "rag.saved_eur"
STEP, CACHE, OUTCOME = "rag.step", "rag.cache", "rag.outcome"
BU, REQUEST_ID = "rag.bu", "rag.request_id"
CODE = "rag.code"
ESTIMATED = "rag.estimated"
TEXTS = "rag.texts"

Operation = Literal["chat", "embeddings", "rerank"]
"""The first two are OpenTelemetry's; it has none for the third."""


def call(operation: Operation, *, model: str, provider: str) -> Mapping[str, str]:
    """The attributes of a call before it is answered. Its span is named by operation and model."""
    return {OPERATION: operation, PROVIDER: provider, REQUEST_MODEL: model}


def usage(used: Usage) -> Mapping[str, str | int | bool]:
    """The attributes of a call that was answered; those of a kind of token that did not occur are left out."""
    counted = {CACHED_TOKENS: used.cached_tokens, REASONING_TOKENS: used.reasoning_tokens}
    return {
        RESPONSE_MODEL: used.model,
        INPUT_TOKENS: used.input_tokens,
        OUTPUT_TOKENS: used.output_tokens,
        **{name: tokens for name, tokens in counted.items() if tokens},
        **({ESTIMATED: True} if used.estimated else {}),
    }


def pseudonym(bu: str) -> str:
    """A business unit as traces name it: the same for the same one, and no name to read where traces are kept by somebody else."""
    return sha256(b"pilotis.bu\0" + bu.encode("utf-8", "surrogatepass")).hexdigest()[:12]
