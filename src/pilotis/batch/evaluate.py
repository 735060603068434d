"""From a golden set to judged answers: every question asked, a bounded number at once, each measured by `rag.metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from pilotis.errors import Invalid, Limited, Permanent, PilotisError, Transient
from pilotis.ports.quality import Judged, Reply, Seen
from pilotis.rag import metrics
from pilotis.rag.golden import Expected, GoldenQuestion, gains, is_expected

AT_ONCE = 4
SHOWN = 10
"""Passages of a question that are kept with its figures: as deep as any of them looks."""
PATIENCE, LONGEST_PAUSE_S = 6, 30.0
"""How often a question is put again that was turned away for being too fast, or that met a server which was away."""
_LATER = frozenset({"rate_limited", "budget_held", "overloaded"})

Asker = Callable[[GoldenQuestion], Awaitable[Reply]]
"""Puts a question to what is evaluated. The planes do not import one another: the edge passes the online one's road."""

Progress = Callable[[int, int], None]
"""Told how many questions are answered and how many of these failed."""


async def evaluate(
    questions: Sequence[GoldenQuestion],
    ask: Asker,
    *,
    at_once: int = AT_ONCE,
    progress: Progress = lambda _done, _failed: None,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Judged]:
    """Ask and judge all questions, in their order.

    A question whose answer fails counts as wrong in all its figures, and says why. What would fail for every question ends the run:
    a budget that is spent, a model without a key, a business unit without documents.

    Raises:
        Limited, SetupError, NotFound, ContractError: no further question can be answered.
    """
    turns = asyncio.Semaphore(at_once)
    done = failed = 0

    async def one(question: GoldenQuestion) -> Judged:
        nonlocal done, failed
        async with turns:
            judged = await _judged(question, ask, pause)
        done, failed = done + 1, failed + (judged.error is not None)
        progress(done, failed)
        return judged

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(question)) for question in questions]
    except BaseExceptionGroup as ended:
        first = ended.exceptions[0]
        if isinstance(first, PilotisError):
            raise first from None
        raise
    return [task.result() for task in tasks]


def judge(question: GoldenQuestion, reply: Reply) -> Judged:
    """The figures of one answer: those that the golden set has something to compare with."""
    ranked = [(hit.document, hit.passage_id, hit.text) for hit in reply.ranked]
    worth = gains(ranked, question.expected)
    return Judged(
        id=question.id,
        question=question.text,
        tags=question.tags,
        metrics=_figures(question, reply, worth),
        answer=reply.text,
        found=reply.found,
        language=reply.language,
        seen=tuple(
            Seen(
                document=hit.document,
                passage_id=hit.passage_id,
                page=hit.page,
                expected=is_expected(*place, question.expected),
                cited=hit.passage_id in reply.cited,
            )
            for hit, place in zip(reply.ranked[:SHOWN], ranked[:SHOWN], strict=True)
        ),
        latency_ms=reply.latency_ms,
        cost_eur=reply.cost_eur,
        model=reply.model,
        step=reply.step,
        wanted=wanted(question),
    )


def wanted(question: GoldenQuestion) -> tuple[str, ...]:
    """What a question expects, in words."""
    if question.unanswerable:
        return ("not found",)
    return (*(f"“{answer}”" for answer in question.answers), *(_said(one) for one in question.expected))


async def _judged(question: GoldenQuestion, ask: Asker, pause: Callable[[float], Awaitable[None]]) -> Judged:
    for tried in range(1, PATIENCE + 1):
        try:
            return judge(question, await ask(question))
        except Limited as error:
            if error.code not in _LATER or tried == PATIENCE:
                raise
            await pause(min(LONGEST_PAUSE_S, error.retry_after_s))
        except Transient as error:
            if tried == PATIENCE // 2:
                return _failed(question, error.message)
            await pause(min(LONGEST_PAUSE_S, error.retry_after_s))
        except (Permanent, Invalid) as error:
            return _failed(question, error.message)
    raise AssertionError("the last try returns or raises")


def _failed(question: GoldenQuestion, reason: str) -> Judged:
    nothing = Reply(
        id="",
        text="",
        found=False,
        language="",
        ranked=(),
        cited=(),
        latency_ms=0.0,
        cost_eur=Decimal(0),
        model="",
        step="",
    )
    figures = dict.fromkeys(_figures(question, nothing, []), 0.0)
    return Judged(
        id=question.id,
        question=question.text,
        tags=question.tags,
        metrics=figures,
        answer="",
        found=False,
        language="",
        seen=(),
        latency_ms=None,
        cost_eur=Decimal(0),
        model="",
        step="",
        wanted=wanted(question),
        error=reason,
    )


def _figures(question: GoldenQuestion, reply: Reply, worth: Sequence[float]) -> dict[str, float]:
    if question.unanswerable:
        return {"abstained": float(not reply.found)}
    found: dict[str, float] = {}
    if question.expected:
        found = {
            "hit@1": metrics.hit(worth, 1),
            "hit@5": metrics.hit(worth, 5),
            "mrr@10": metrics.reciprocal_rank(worth, 10),
            "ndcg@10": metrics.ndcg(worth, [one.grade for one in question.expected], 10),
        }
        places = {hit.passage_id: (hit.document, hit.passage_id, hit.text) for hit in reply.ranked}
        cited = [is_expected(*places[one], question.expected) for one in reply.cited if one in places]
        if (precision := metrics.citation_precision(cited)) is not None:
            found["citation_precision"] = precision
    if question.answers:
        measured = {"exact_match": metrics.exact_match, "f1": metrics.token_f1, "contains": metrics.contains}
        found |= {name: one(reply.text, question.answers, language=reply.language) for name, one in measured.items()}
    return found | {"answered": float(reply.found)}


def _said(expected: Expected) -> str:
    if expected.passage is not None:
        return f"passage {expected.passage}"
    return f"{expected.document}: “{expected.quote}”" if expected.quote else str(expected.document)
