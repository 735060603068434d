"""The road of a question, from what was typed to an answer with its sources and its cost.

parse -> admission (or the answer from the cache) -> embed -> search -> rerank -> prune -> write, streamed -> cite -> settle -> metrics
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from pilotis.derive import genai
from pilotis.derive.cost import Work
from pilotis.derive.plan import Env, Plan
from pilotis.online.admission import Entry, enter
from pilotis.online.ask import Ask, read
from pilotis.online.cache import kept, replayed, unpack_answer, unpack_hits
from pilotis.online.cite import Cited, cite
from pilotis.online.events import Answer, Citation, Done, Event, Passages, Receipt, Step, Token
from pilotis.online.rerank import rerank
from pilotis.online.search import find
from pilotis.online.settle import Tab
from pilotis.online.timing import Stopwatch, counted
from pilotis.online.write import Draft, begin, write
from pilotis.ports import Deps, Hit, Kept
from pilotis.rag.extract import is_not_found
from pilotis.rag.question import Question

__all__ = ["Answer", "Ask", "Citation", "Done", "Event", "Passages", "Receipt", "Step", "Token", "answer"]

INSTRUCTION_TOKENS, CHARACTERS_PER_TOKEN = 220, 4


async def answer(ask: Ask, env: Env, plan: Plan, deps: Deps) -> AsyncGenerator[Event, None]:
    """Answer a question from the documents of its business unit.

    Close the generator (`contextlib.aclosing`) when leaving early: what was consumed until then is settled.

    Raises:
        Invalid, Limited, NotFound: before the first event, so that an edge can still answer with a status.
        Transient, Permanent: a store or a model failed, possibly in mid-stream.
    """
    watch = Stopwatch(deps.meter)
    with counted(deps.meter, "ask", watch) as outcome:
        question = read(ask, env)
        entry = await enter(ask, question, env, plan, deps, kind="answer", watch=watch)
        if entry.answer is not None:
            again = _again(entry, env, watch)
            deps.meter.count("rag_cost_saved_eur_total", float(again.receipt.saved_eur), bu=ask.bu)
            watch.spans.note({genai.CACHE: "hit", genai.COST: 0.0, genai.SAVED: float(again.receipt.saved_eur)})
            outcome.name = "answered" if again.found else "not_found"
            for event in _replay(again, entry.answer.shown, streamed=ask.streamed):
                yield event
            return
        async with Tab(entry, "answer", env=env, plan=plan, deps=deps) as tab:
            found, fresh = await find(ask, question, entry, deps, tab=tab, watch=watch)
            hits, steps = await rerank(question, found, entry.rung.env, deps, tab=tab, watch=watch)
            draft = begin(ask, question, hits, entry.rung.env, deps)
            yield Passages(tuple(draft.passages), tuple(hits))

            async with aclosing(write(draft, entry.rung.env, deps, tab=tab, watch=watch)) as pieces:
                async for piece in pieces:
                    yield Token(piece)

            written = _Written(question, entry, draft, cite(draft), (*_degraded(entry, env), *steps, *draft.steps))
            with watch.stage("settle"):
                keep = partial(_keep, written, found if fresh else None, env)
                receipt = await tab.settle(work=_work(draft, len(found), deps), keep=keep)
        done = replace(written.answer(env, receipt), timings_ms=watch.milliseconds())
        outcome.name = "answered" if done.found else "not_found"
    yield Done(done)


@dataclass(frozen=True, slots=True)
class _Written:
    """An answer that lacks nothing but its price."""

    question: Question
    entry: Entry
    draft: Draft
    cited: Cited
    steps: tuple[Step, ...]

    def answer(self, env: Env, receipt: Receipt) -> Answer:
        return Answer(
            id=self.entry.hold.id,
            text=self.cited.text,
            found=not is_not_found(self.cited.text),
            language=self.question.language,
            citations=self.cited.citations,
            receipt=receipt,
            timings_ms={},
            env=env.name,
            model=self.draft.model,
            prompt=self.draft.prompt.version if self.draft.prompt else None,
            step=self.entry.rung.step,
            cache="off" if self.entry.answer_key is None else "miss",
            steps=(*self.steps, *_put_right(self.draft, self.cited)),
            cut=self._is_cut(receipt),
        )

    def _is_cut(self, receipt: Receipt) -> bool:
        """By the last call of the writer: one that failed before it may have used its tokens too."""
        wrote = [usage.output_tokens for usage in receipt.usages if usage.model == self.draft.model]
        return self.draft.prompt is not None and wrote[-1:] >= [self.draft.max_tokens]


def _keep(written: _Written, found: Sequence[Hit] | None, env: Env, receipt: Receipt) -> Kept | None:
    """What the caches keep. What a fallback wrote is not kept: the env's own model would answer better."""
    entry, draft = written.entry, written.draft
    own = draft.model == entry.rung.env.llm.model
    keys = (entry.answer_key if own else None, entry.passages_key)
    if not any(keys):
        return None
    return kept(written.answer(env, receipt), draft.passages, found, keys=keys, ttl_s=env.cache_ttl_s)


def _again(entry: Entry, env: Env, watch: Stopwatch) -> Answer:
    assert entry.answer is not None
    return unpack_answer(entry.answer.record, id=entry.hold.id, env=env.name, timings_ms=dict(watch.milliseconds()))


def _replay(again: Answer, shown: bytes | None, *, streamed: bool) -> Sequence[Event]:
    """The events of an answer from the cache; whoever does not stream is spared those before the last."""
    if not streamed:
        return [Done(again)]
    return [Passages(unpack_hits(shown or b"[]")), *(Token(piece) for piece in replayed(again.text)), Done(again)]


def _degraded(entry: Entry, env: Env) -> tuple[Step, ...]:
    if entry.rung.step == "full":
        return ()
    reason = f"requests cost more than {env.guardrail_eur_per_req} € on average: the guardrail is at this step"
    return (Step(name="guardrail", outcome=entry.rung.step, reason=reason),)


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
