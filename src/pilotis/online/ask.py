"""One request of a business unit, and the checks that everything in it has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotis.derive.budget import Budget
from pilotis.derive.plan import Env
from pilotis.errors import Invalid
from pilotis.rag.question import Question, check_characters, parse

MAX_TOP_K = 200
MAX_COLLECTION_CHARACTERS = 200
MAX_FILTERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of a business unit, as its edge read it."""

    bu: str
    text: str
    collection: str | None = None
    """None searches all collections of the business unit."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Only documents whose metadata holds all of these."""
    top_k: int | None = None
    """None takes the env's."""
    prompt: str | None = None
    """Version of the prompt; None takes the env's."""
    history: tuple[tuple[str, str], ...] = ()
    """Earlier turns of the conversation: role and text, oldest first."""
    max_tokens: int | None = None
    """The writer's cap, where it is lower than the env's."""
    streamed: bool = False
    """Whether the caller wants to see the passages and each piece: an answer from the cache then comes as a stream too."""
    evaluates: bool = False
    """Asked to judge the answer: no cache is read or written, and what it costs is booked as the batch plane's `eval`."""
    key: str | None = None
    """The API key it came with."""
    key_budget: Budget | None = None
    ip: str | None = None


def read(ask: Ask, env: Env) -> Question:
    """Check everything the caller sent. Raises Invalid."""
    if ask.top_k is not None and not 1 <= ask.top_k <= MAX_TOP_K:
        raise Invalid(
            f"top_k is {ask.top_k}; it goes from 1 to {MAX_TOP_K}",
            remedy=f"leave it out to take {env.top_k}",
            code="invalid_top_k",
        )
    if ask.collection is not None:
        _check_name(ask.collection, "the collection's name")
    if len(ask.metadata) > MAX_FILTERS:
        raise Invalid(
            f"{len(ask.metadata)} metadata filters; the limit is {MAX_FILTERS}",
            remedy="filter by fewer keys",
            code="invalid_metadata",
        )
    for key, value in ask.metadata.items():
        _check_name(key, "a metadata key")
        if isinstance(value, str):
            check_characters(value, f"the metadata filter {key!r}")
        elif not isinstance(value, bool | int | float | None):
            raise Invalid(
                f"the metadata filter {key!r} is a {type(value).__name__}",
                remedy="filter by a text, a number, true, false or null",
                code="invalid_metadata",
            )
    return parse(ask.text, languages=env.languages)


def _check_name(name: str, what: str) -> None:
    check_characters(name, what)
    if not name.strip():
        raise Invalid(f"{what} is empty", remedy="leave it out or name one", code="invalid_name")
    if len(name) > MAX_COLLECTION_CHARACTERS:
        raise Invalid(
            f"{what} has {len(name):,} characters; the limit is {MAX_COLLECTION_CHARACTERS}",
            remedy="shorten it",
            code="invalid_name",
        )
