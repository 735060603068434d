"""What makes the first question as fast as the next: everything is used once before `/readyz` says yes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import numpy as np

from pilotis.errors import PilotisError, Transient
from pilotis.ports import Query
from pilotis.rag.question import parse

if TYPE_CHECKING:
    from pilotis.api.gate import Gate
    from pilotis.derive.plan import Env
    from pilotis.ports import Deps, Vectors

log = logging.getLogger("pilotis.api")

NOBODY = "\N{EM DASH}"
"""A business unit that has nothing, so that nothing of anybody's is read."""
SENTENCE = "git rebase"
"""Without a word that tells its language, so that the language model is asked, and hence loaded."""
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


async def warm(gate: Gate, env: Env, deps: Deps) -> None:
    """Use the models, the pool and the index once, and wait for the budgets; try again until all of it works.

    Nothing of this is counted or billed: a remote model, which is paid, is not asked.
    """
    pause_s, said = PAUSE_S, ""
    while True:
        try:
            await _use(env, deps)
        except PilotisError as error:
            if error.message != said:
                log.info("not ready: %s", said := error.message)
        except Exception:  # whatever it is, this process is not ready, and it must go on saying so
            log.exception("not ready")
        else:
            break
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    gate.warmed()


async def _use(env: Env, deps: Deps) -> None:
    question = await asyncio.to_thread(parse, SENTENCE, languages=env.languages)
    vector = await _vector(question.text, env, deps)
    query = Query(bu=NOBODY, text=question.text, language=question.language, vector=vector, top_k=env.top_k)
    await asyncio.gather(*(deps.passages.search(query) for _ in range(env.pool_min)))
    if not await deps.outbox.is_seeded():
        raise Transient("the budgets are being made from the ledger")


async def _vector(text: str, env: Env, deps: Deps) -> Vectors:
    if env.embedder.provider == "local":
        embedded: Vectors = (await deps.embedder.embed([text]))[0]
        return embedded
    vector: Vectors = np.zeros(env.embedder.dimension, dtype=np.float32)
    vector[0] = 1.0
    return vector
