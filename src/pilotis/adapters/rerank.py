"""Passages scored by a remote model over the `/rerank` protocol that Cohere made and vLLM, TEI gateways and Jina speak."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pilotis.adapters.breaker import Breaker
from pilotis.adapters.openai_client import Remote, retried, translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.errors import PilotisError

COHERE_URL = "https://api.cohere.com/v2"


class HttpReranker:
    """POST {base_url}/rerank {model, query, documents, top_n}: one score for each passage, higher is better.

    Raises SetupError (the key), Permanent (an unknown model, an answer of another shape) or Transient (overload, time, connection).
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None,
        key: str | None,
        key_env: str | None = None,
        breaker: Breaker | None = None,
        total_s: float = 10.0,
    ) -> None:
        self.model = model
        self._remote = Remote(
            model=model, base_url=base_url or COHERE_URL, key=key, key_env=key_env, breaker=breaker or Breaker()
        )
        self._total_s = total_s
        self._client = self._remote.open(total_s=total_s)

    async def rerank(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        """Return one score for each passage, in their order."""
        if not passages:
            return []
        body = {"model": self.model, "query": question, "documents": list(passages), "top_n": len(passages)}

        async def attempt() -> Any:
            return await self._client.post("/rerank", body=body, cast_to=object)

        answer = await retried(attempt, self._remote, within_s=self._total_s)
        try:
            return _scores(answer, len(passages))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self._strange(error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _strange(self, error: Exception) -> PilotisError:
        return translate(ValueError(f"no scores under `results` ({type(error).__name__}: {error})"), self._remote)


def _scores(answer: Any, expected: int) -> list[float]:
    scores: dict[int, float] = {}
    for result in answer["results"]:
        scores[int(result["index"])] = float(result["relevance_score"])
    if sorted(scores) != list(range(expected)):
        raise ValueError(f"{len(scores)} scores for {expected} passages")
    if not all(math.isfinite(score) for score in scores.values()):
        raise ValueError("a score that is not a number")
    return [scores[position] for position in range(expected)]
