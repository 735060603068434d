"""A second look at what search found, where the env pays for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from pilotis.derive.cost import Usage
from pilotis.derive.plan import Env
from pilotis.errors import Permanent, SetupError, Transient
from pilotis.online.events import Step
from pilotis.online.settle import Tab
from pilotis.online.timing import Stopwatch
from pilotis.ports import Deps, Hit
from pilotis.rag.question import Question

log = logging.getLogger(__name__)


async def rerank(
    question: Question, hits: Sequence[Hit], env: Env, deps: Deps, *, tab: Tab, watch: Stopwatch
) -> tuple[Sequence[Hit], tuple[Step, ...]]:
    """Order hits by the reranker's score. A reranker that fails is skipped: search's own order is an answer too."""
    if not env.rerank or len(hits) < 2:
        return hits, ()
    if deps.reranker is None:
        return hits, (Step(name="rerank", outcome="skipped", reason=f"no reranker is configured for env {env.name!r}"),)
    tab.begin(env.reranker.provider if env.reranker else "local")
    try:
        with watch.stage("rerank"), tab.calling(_usage(question, hits, env, deps)):
            scores = await deps.reranker.rerank(question.text, [hit.text for hit in hits])
    except (Transient, Permanent, SetupError) as error:
        # Behind the colon stands where the reranker was sought, which is for the operator.
        log.warning("the reranker is skipped: %s", error.message)
        return hits, (Step(name="rerank", outcome="skipped", reason=error.message.partition(": ")[0]),)
    order = sorted(range(len(hits)), key=lambda position: -scores[position])
    return [replace(hits[position], score=float(scores[position])) for position in order], ()


def _usage(question: Question, hits: Sequence[Hit], env: Env, deps: Deps) -> Usage:
    """The protocol reports no usage: count what was sent, the question once per passage."""
    count = deps.embedder.count_tokens
    assert deps.reranker is not None
    return Usage(
        model=deps.reranker.model,
        provider=env.reranker.provider if env.reranker else "local",
        input_tokens=len(hits) * count(question.text) + sum(count(hit.text) for hit in hits),
        estimated=True,
    )
