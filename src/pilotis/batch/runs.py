"""One run of a golden set from its beginning to its stored end, inline or by a worker; and the runs that others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pilotis.batch.evaluate import AT_ONCE, Asker, Progress, evaluate
from pilotis.batch.figures import figures
from pilotis.derive.plan import Env, Plan
from pilotis.ports import Evaluations
from pilotis.ports.quality import Evaluation, EvaluationState, Judged
from pilotis.rag.golden import Golden

Run = tuple[Evaluation, Sequence[Judged]]

LATEST = "latest"


def begin(golden: Golden, *, env: Env, bu: str, config: Mapping[str, Any], state: EvaluationState = "running") -> Evaluation:
    """A run that has no figures yet."""
    return Evaluation(
        id=str(uuid4()),
        env=env.name,
        bu=bu,
        at=datetime.now(UTC),
        state=state,
        golden=golden.name,
        digest=golden.digest,
        questions=len(golden.questions),
        config=config,
    )


def config_of(env: Env, plan: Plan, *, generation: str, changes: Sequence[str] = (), at_once: int = AT_ONCE) -> dict[str, Any]:
    """What answers, as far as it may change an answer, its time or its cost."""
    return {
        "contract": plan.digest[:12],
        "llm": env.llm.model,
        "embedder": env.embedder.model,
        "reranker": env.reranker.model if env.rerank and env.reranker else None,
        "flags": [name for name, is_on in (("hybrid", env.hybrid), ("rerank", env.rerank)) if is_on],
        "top_k": env.top_k,
        "prompt": env.prompt,
        "tok_in_max": env.tok_in_max,
        "tok_out_max": env.tok_out_max,
        "generation": generation,
        "changes": list(changes),
        "at_once": at_once,
    }


async def carry_out(
    evaluation: Evaluation, golden: Golden, ask: Asker, evaluations: Evaluations, *, at_once: int, progress: Progress
) -> Run:
    """Ask, judge, sum up and store. A run that breaks off leaves nothing behind. Raises as `evaluate` does."""
    rows = await evaluate(golden.questions, ask, at_once=at_once, progress=progress)
    done = replace(evaluation, state="done", figures=figures(rows))
    await evaluations.add(evaluation)
    await evaluations.finish(done, rows)
    return done, rows


async def find(ref: str, evaluations: Evaluations, *, bu: str, golden: str, read: Callable[[str], Run | None]) -> Run | None:
    """The run that `ref` names: `latest`, a file (`read` returns None where there is no such file), or the beginning of an id.

    None where there is no latest one yet. Raises NotFound and Invalid.
    """
    if ref == LATEST:
        latest = await evaluations.latest(bu=bu, golden=golden)
        return None if latest is None else (latest, await evaluations.rows(latest.id))
    kept = read(ref)
    if kept is not None:
        return kept
    found = await evaluations.get(ref)
    return found, await evaluations.rows(found.id)


async def baseline(evaluations: Evaluations, *, bu: str, golden: str) -> Run | None:
    """The run that this set was told to be compared with."""
    found = await evaluations.baseline(bu=bu, golden=golden)
    return None if found is None else (found, await evaluations.rows(found.id))
