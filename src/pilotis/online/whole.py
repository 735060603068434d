"""The road of a question for those who judge it: the answer, and everything that was ranked on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from pilotis.derive.plan import Env, Plan
from pilotis.online.answer import Ask, Done, Passages, answer
from pilotis.ports import Deps, Hit
from pilotis.ports.quality import Reply
from pilotis.rag.golden import GoldenQuestion


def asker(env: Env, plan: Plan, deps: Deps, *, bu: str) -> Callable[[GoldenQuestion], Awaitable[Reply]]:
    """What puts golden questions to this business unit."""

    async def ask(question: GoldenQuestion) -> Reply:
        return await reply(Ask(bu=bu, text=question.text, collection=question.collection), env, plan, deps)

    return ask


async def reply(ask: Ask, env: Env, plan: Plan, deps: Deps) -> Reply:
    """Answer, as an evaluation: no cache is read or written, and the cost is booked as the batch plane's. Raises as `answer` does."""
    ranked: tuple[Hit, ...] = ()
    async with aclosing(answer(replace(ask, evaluates=True), env, plan, deps)) as events:
        async for event in events:
            if isinstance(event, Passages):
                ranked = event.ranked
            elif isinstance(event, Done):
                done = event.answer
                return Reply(
                    id=done.id,
                    text=done.text,
                    found=done.found,
                    language=done.language,
                    ranked=ranked,
                    cited=tuple(dict.fromkeys(citation.passage_id for citation in done.citations)),
                    latency_ms=done.timings_ms["total"],
                    cost_eur=done.receipt.cost_eur,
                    model=done.model,
                    step=done.step,
                )
    raise AssertionError("the road of a question ends with Done or an error")
