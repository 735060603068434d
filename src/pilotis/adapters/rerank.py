"""Passages scored by a remote model over the `/rerank` protocol that Cohere made and vLLM, TEI gateways and Jina speak."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pilotis.adapters.breaker import Breaker
from pilotis.adapters.openai_client import Remote, is_about_length, refused, retried, translate
from pilotis.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotis.errors import PilotisError

COHERE_URL = "https://api.cohere.com/v2"
MOST_PASSAGES = 1000
"""Of one request, until a server wants fewer."""
SHORTEST_CUT = 500
"""Characters below which a passage that is refused for its length is not cut further: something else is wrong."""


class HttpReranker:
    """POST {base_url}/rerank {model, query, documents}: one score for each passage, higher is better.

    How many scores come back is left to the server's default, all of them: its name differs (top_n, top_k). They are read under
    `results` (Cohere, Jina, vLLM) or `data` (Voyage), or from a bare list (TEI). Passages that are too many for one request go
    in two, and later ones are no larger; one that is too long for the model by itself is cut by halves until it fits.

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
        self._batch, self._cuts = MOST_PASSAGES, 0
        self._client = self._remote.open(total_s=total_s)

    async def rerank(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        """Return one score for each passage, in their order."""
        scores: list[float] = []
        while len(scores) < len(passages):
            scores += await self._fitted(question, list(passages[len(scores) : len(scores) + self._batch]))
        return scores

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _fitted(self, question: str, passages: list[str]) -> list[float]:
        try:
            return await self._request(question, passages)
        except Permanent as error:
            refusal = refused(error)
            if refusal is None or not is_about_length(refusal):
                raise
            if len(passages) == 1:
                if len(passages[0]) < 2 * SHORTEST_CUT:
                    raise
                self._cuts += 1
                return await self._fitted(question, [passages[0][: len(passages[0]) // 2]])
        half = len(passages) // 2
        cuts = self._cuts
        both = [*await self._fitted(question, passages[:half]), *await self._fitted(question, passages[half:])]
        if self._cuts == cuts:  # else it was the length of one of them, not how many they are
            self._batch = min(self._batch, len(passages) - half)
        return both

    async def _request(self, question: str, passages: list[str]) -> list[float]:
        body = {"model": self.model, "query": question, "documents": passages}

        async def attempt() -> Any:
            return await self._client.post("/rerank", body=body, cast_to=object)

        answer = await retried(attempt, self._remote, within_s=self._total_s)
        try:
            return _scores(answer, len(passages))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self._strange(error) from error

    def _strange(self, error: Exception) -> PilotisError:
        return translate(ValueError(f"no scores under `results` ({type(error).__name__}: {error})"), self._remote)


def _scores(answer: Any, expected: int) -> list[float]:
    scores: dict[int, float] = {}
    results = answer if isinstance(answer, list) else answer["results" if "results" in answer else "data"]
    for result in results:
        scores[int(result["index"])] = float(result["relevance_score" if "relevance_score" in result else "score"])
    if sorted(scores) != list(range(expected)):
        raise ValueError(f"{len(scores)} scores for {expected} passages")
    if not all(math.isfinite(score) for score in scores.values()):
        raise ValueError("a score that is not a number")
    return [scores[position] for position in range(expected)]
