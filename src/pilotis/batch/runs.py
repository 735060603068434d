"""One run of a golden set from its beginning to its stored end, inline or by a worker; and the runs that others are compared with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pilotis.batch.evaluate import AT_ONCE, Asker, Progress, evaluate
from pilotis.batch.figures import figures
from pilotis.derive.plan import Env, Plan
from pilotis.errors import PilotisError
from pilotis.ports import Evaluations
from pilotis.ports.quality import Evaluation, EvaluationState, Judged
from pilotis.rag.golden import Golden, line_of, parse

Run = tuple[Evaluation, Sequence[Judged]]

LATEST = "latest"
LEASE_S = 60.0


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


def order_of(golden: Golden, *, changes: Sequence[str], at_once: int) -> dict[str, Any]:
    """What a worker needs to carry out a run of this set; see `ordered`."""
    return {"lines": [line_of(one) for one in golden.questions], "changes": list(changes), "at_once": at_once}


def ordered(evaluation: Evaluation, order: Mapping[str, Any]) -> tuple[Golden, Sequence[str], int]:
    """The set, the changed settings, and how many questions at once."""
    return parse("\n".join(order["lines"]), name=evaluation.golden), order["changes"], order["at_once"]


async def give_up(evaluation: Evaluation, error: PilotisError, evaluations: Evaluations) -> None:
    """The run has failed, for this reason."""
    await evaluations.finish(replace(evaluation, state="failed", error=error.message), ())


@asynccontextmanager
async def leased(evaluation: Evaluation, evaluations: Evaluations) -> AsyncIterator[None]:
    """For as long as the block lasts nobody else takes the run."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(PilotisError):
                await evaluations.renew(evaluation.id, lease_s=LEASE_S)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()


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
