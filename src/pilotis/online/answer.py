"""The road of a question, from what was typed to an answer with its sources and its cost.

parse -> embed -> search -> rerank -> prune -> write, streamed -> cite -> settle -> metrics
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from pilotis.derive.cost import Work
from pilotis.derive.plan import Env, Plan
from pilotis.online.cite import Citation, Cited, cite
from pilotis.online.rerank import Step, rerank
from pilotis.online.search import Ask, embed, look, read
from pilotis.online.settle import Receipt, Tab
from pilotis.online.timing import Stopwatch, counted
from pilotis.online.write import Draft, begin, write
from pilotis.ports import Deps, Hit
from pilotis.rag.extract import is_not_found

__all__ = ["Answer", "Ask", "Citation", "Done", "Event", "Passages", "Receipt", "Step", "Token", "answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, complete and paid for. Its `text` is authoritative: marks that point nowhere were streamed, but are not in it."""

    id: str
    text: str
    found: bool
    """False where the documents do not answer; the text then says so."""
    language: str
    citations: tuple[Citation, ...]
    receipt: Receipt
    timings_ms: Mapping[str, float]
    """By stage (embed, search, rerank, extract or generate, settle), and `total`."""
    env: str
    model: str
    prompt: str | None
    """Version of the prompt, None where the answer is extractive."""
    steps: tuple[Step, ...]
    """What was skipped or put right on the way, and why."""


@dataclass(frozen=True, slots=True)
class Passages:
    """First event: what was found, in the order that `[n]` counts."""

    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """Then, many times: the next piece of the text."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Last event. Whoever sees it knows that the cost is in the ledger."""

    answer: Answer


Event = Passages | Token | Done

INSTRUCTION_TOKENS, CHARACTERS_PER_TOKEN = 220, 4


async def answer(ask: Ask, env: Env, plan: Plan, deps: Deps) -> AsyncGenerator[Event, None]:
    """Answer a question from the documents of its business unit.

    Close the generator (`contextlib.aclosing`) when leaving early: what was consumed until then is settled.

    Raises:
        Invalid, NotFound: before the first event, so that an edge can still answer with a status.
        Transient, Permanent: a store or a model failed, possibly in mid-stream.
    """
    watch = Stopwatch(deps.meter)
    with counted(deps.meter, "ask", watch) as outcome:
        question = read(ask, env)
        async with Tab(str(uuid.uuid4()), ask.bu, "answer", env=env, plan=plan, deps=deps) as tab:
            vector = await embed(question, env, deps, tab=tab, watch=watch)
            if deps.generator is None and deps.reranker is None:
                tab.close()
            hits = await look(ask, question, vector, env, deps, watch=watch)
            hits, steps = await rerank(question, hits, env, deps, tab=tab, watch=watch)
            draft = begin(question, hits, env, deps, prompt_version=ask.prompt or env.prompt)
            yield Passages(tuple(draft.passages))

            async with aclosing(write(draft, env, deps, tab=tab, watch=watch)) as pieces:
                async for piece in pieces:
                    yield Token(piece)

            cited = cite(draft)
            with watch.stage("settle"):
                receipt = await tab.settle(_work(draft, len(hits), deps))
        done = Answer(
            id=tab.id,
            text=cited.text,
            found=not is_not_found(cited.text),
            language=question.language,
            citations=cited.citations,
            receipt=receipt,
            timings_ms=watch.milliseconds(),
            env=env.name,
            model=env.llm.model,
            prompt=draft.prompt.version if draft.prompt else None,
            steps=(*steps, *_put_right(draft, cited)),
        )
        outcome.name = "answered" if done.found else "not_found"
    yield Done(done)


def _work(draft: Draft, found: int, deps: Deps) -> Work:
    """What the request did, whoever wrote. An extractive answer had no prompt: an LLM's is put at what it would roughly hold."""
    count = deps.embedder.count_tokens
    text = sum(len(passage.text) for passage in draft.passages)
    return Work(
        question_tokens=count(draft.question.text),
        prompt_tokens=draft.prompt.tokens if draft.prompt else INSTRUCTION_TOKENS + text // CHARACTERS_PER_TOKEN,
        answer_tokens=count(draft.text),
        passages=found,
    )


def _put_right(draft: Draft, cited: Cited) -> tuple[Step, ...]:
    if cited.unknown:
        marks = " ".join(f"[{n}]" for n in cited.unknown)
        reason = f"{marks} pointed at no passage: {len(draft.passages)} were given"
        return (Step(name="cite", outcome="removed", reason=reason),)
    if not cited.citations and not is_not_found(cited.text):
        return (Step(name="cite", outcome="missing", reason="the model cited no passage"),)
    return ()
