"""From passages to the text of an answer, piece by piece: by a model, or extracted verbatim where the env has none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env
from pilotis.online.settle import Tab
from pilotis.online.timing import Stopwatch, timely
from pilotis.ports import Deps, Generator, Hit
from pilotis.rag.extract import Span, extract, not_found
from pilotis.rag.prompt import Prompt, build
from pilotis.rag.question import Question


@dataclass(slots=True)
class Draft:
    """An answer being written. `passages` are those it may cite, `[1]` being the first."""

    question: Question
    passages: Sequence[Hit]
    prompt: Prompt | None = None
    """None where no model is asked: the answer is extractive, or there is nothing to answer from."""
    text: str = ""
    spans: Sequence[Span] = ()
    """Where extracted sentences stand in their passages."""


def begin(question: Question, hits: Sequence[Hit], env: Env, deps: Deps, *, prompt_version: str) -> Draft:
    """Choose what the writer reads: every passage to extract from, or as many as `tok_in_max` allows a model.

    Raises ContractError for a prompt version that does not exist, Invalid for a question that leaves no room for a passage.
    """
    if deps.generator is None or not hits:
        return Draft(question, tuple(hits))
    count = deps.embedder.count_tokens
    prompt, texts = build(question, hits, version=prompt_version, tok_in_max=env.tok_in_max, count_tokens=count)
    passages = [replace(hit, text=text, end=hit.start + len(text)) for hit, text in zip(hits, texts, strict=False)]
    return Draft(question, passages, prompt)


async def write(draft: Draft, env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch) -> AsyncGenerator[str, None]:
    """Fill in the draft's text and yield each piece as it comes.

    What a model consumed goes on the tab however this ends; where the model did not say, it is estimated.
    Raises Transient or Permanent where the model fails.
    """
    if draft.prompt is None or deps.generator is None:
        pieces = _extracted(draft, deps, watch)
    else:
        pieces = _generated(draft.prompt, deps.generator, env, deps, tab=tab, watch=watch)
    async with aclosing(pieces):
        async for piece in pieces:
            if not draft.text:
                deps.meter.observe("rag_first_byte_seconds", watch.elapsed_s())
            draft.text += piece
            yield piece


async def _extracted(draft: Draft, deps: Deps, watch: Stopwatch) -> AsyncGenerator[str, None]:
    with watch.stage("extract"):
        extracted = extract(draft.question, draft.passages, embedder=deps.embedder.name)
    draft.spans = extracted.spans
    if not extracted.spans:
        yield not_found(draft.question.language)
    for position, span in enumerate(extracted.spans):
        yield f"{' ' if position else ''}{span.shown} [{span.n}]"


async def _generated(
    prompt: Prompt, generator: Generator, env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch
) -> AsyncGenerator[str, None]:
    usage: Usage | None = None
    text = ""
    stream = generator.generate(prompt, max_tokens=env.tok_out_max)
    timed = timely(stream, watch, first_byte_s=env.first_byte_s, total_s=env.total_s, model=generator.model)
    try:
        async with aclosing(timed):
            async for item in timed:
                if isinstance(item, Usage):
                    usage = item
                else:
                    text += item
                    yield item
    finally:
        tab.add(
            usage
            or Usage(
                model=generator.model,
                provider=generator.provider,
                input_tokens=prompt.tokens,
                output_tokens=deps.embedder.count_tokens(text) if text else 0,
                estimated=True,
            )
        )
