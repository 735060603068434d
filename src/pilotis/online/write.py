"""From passages to the text of an answer, piece by piece: by a model, or extracted verbatim where the env has none."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env
from pilotis.errors import Transient
from pilotis.online.ask import Ask
from pilotis.online.events import Step
from pilotis.online.settle import Tab
from pilotis.online.timing import Stopwatch
from pilotis.ports import Deps, Generator, Hit
from pilotis.rag.extract import Span, extract, not_found
from pilotis.rag.prompt import Prompt, build
from pilotis.rag.question import Question
from pilotis.rag.ranking import distinct

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Draft:
    """An answer being written. `passages` are those it may cite, `[1]` being the first."""

    question: Question
    passages: Sequence[Hit]
    max_tokens: int = 0
    prompt: Prompt | None = None
    """None where no model is asked: the answer is extractive, or there is nothing to answer from."""
    text: str = ""
    spans: Sequence[Span] = ()
    """Where extracted sentences stand in their passages."""
    model: str = ""
    """Who wrote it."""
    steps: tuple[Step, ...] = ()


def begin(ask: Ask, question: Question, hits: Sequence[Hit], env: Env, deps: Deps) -> Draft:
    """Choose what the writer reads: every passage to extract from, or as many as `tok_in_max` allows a model.

    Raises ContractError for a prompt version that does not exist, Invalid for a question that leaves no room for a passage.
    """
    if env.llm.model not in deps.generators or not hits:
        return Draft(question, tuple(hits), model=env.llm.model)
    count = partial(_tokens, deps)
    version = ask.prompt or env.prompt
    hits = distinct(hits) if env.distinct else hits
    prompt, texts = build(question, hits, version=version, tok_in_max=env.tok_in_max, count_tokens=count, history=ask.history)
    passages = [replace(hit, text=text, end=hit.start + len(text)) for hit, text in zip(hits, texts, strict=False)]
    most = min(ask.max_tokens or env.tok_out_max, env.tok_out_max)
    return Draft(question, passages, most, prompt, model=env.llm.model)


def _tokens(deps: Deps, text: str) -> int:
    """Not fewer than a quarter of the bytes: the embedder's tokenizer takes any long run of characters for one unknown word, where a
    model that is paid by the token would read a thousand.
    """
    return max(deps.embedder.count_tokens(text), -(-len(text.encode("utf-8", "replace")) // 4))


async def write(draft: Draft, env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch) -> AsyncGenerator[str, None]:
    """Fill in the draft's text and yield each piece as it comes.

    What a model consumed goes on the tab however this ends; where the model did not say, it is estimated. A model that fails before
    its first word is replaced by the env's fallback, if it has one. Raises Transient or Permanent where the model fails.
    """
    pieces = _extracted(draft, env, deps, watch) if draft.prompt is None else _written(draft, env, deps, tab=tab, watch=watch)
    async with aclosing(pieces):
        async for piece in pieces:
            if not draft.text:
                deps.meter.observe("rag_first_byte_seconds", watch.elapsed_s())
            draft.text += piece
            yield piece


async def _extracted(draft: Draft, env: Env, deps: Deps, watch: Stopwatch) -> AsyncGenerator[str, None]:
    with watch.stage("extract"):
        extracted = extract(draft.question, draft.passages, embedder=deps.embedder.name, abstain=env.abstain)
    draft.spans = extracted.spans
    if not extracted.spans:
        yield not_found(draft.question.language)
    for position, span in enumerate(extracted.spans):
        yield f"{' ' if position else ''}{span.shown} [{span.n}]"


async def _written(draft: Draft, env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch) -> AsyncGenerator[str, None]:
    """The env's model, then its fallback: the second only while nobody has seen a word of the first."""
    models = [env.llm.model, *([env.fallback.model] if env.fallback and env.fallback.model in deps.generators else [])]
    for position, model in enumerate(models):
        draft.model = model
        try:
            async with aclosing(_generated(draft, deps.generators[model], deps, tab=tab, watch=watch)) as pieces:
                async for piece in pieces:
                    yield piece
        except Transient as error:
            if draft.text or position + 1 == len(models):
                raise
            # Behind the colon stands where the model was sought, which is for the operator.
            log.warning("%s writes instead: %s", models[position + 1], error.message)
            draft.steps = (*draft.steps, Step(name="generate", outcome="fallback", reason=error.message.partition(": ")[0]))
        else:
            return


async def _generated(
    draft: Draft, generator: Generator, deps: Deps, *, tab: Tab, watch: Stopwatch
) -> AsyncGenerator[str, None]:
    """Pieces of text; what they consumed goes on the tab. The clock stands still while the reader works: a slow reader is not a slow model."""
    assert draft.prompt is not None
    told: Usage | None = None
    since = ""
    tab.begin(generator.provider)
    stream = generator.generate(draft.prompt, max_tokens=draft.max_tokens)
    try:
        while True:
            with watch.stage("generate"):
                item = await anext(stream, None)
            if item is None:
                return
            if isinstance(item, Usage):
                told, since = item, ""
            else:
                since += item
                yield item
    finally:
        # First: to close may take a while, and whoever is cancelled meanwhile has consumed it all the same.
        tab.add(_consumed(draft, generator, deps, told=told, since=since))
        await _closed(stream)


def _consumed(draft: Draft, generator: Generator, deps: Deps, *, told: Usage | None, since: str) -> Usage:
    """What the model said, and what came `since`. Left before it could say, it has read the prompt, and written what we have of it."""
    assert draft.prompt is not None
    if told is not None and not since:
        return told
    told = told or Usage(model=generator.model, provider=generator.provider, input_tokens=draft.prompt.tokens)
    more = _tokens(deps, since) if since else 0
    return replace(told, output_tokens=told.output_tokens + more, estimated=True)


async def _closed(stream: object) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
