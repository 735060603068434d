"""Runs of golden sets and votes on answers, in memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pilotis.batch.opinions import no_answer, no_passage
from pilotis.batch.record import not_done, only, read_row, row_document
from pilotis.ports import CostEvent
from pilotis.ports.quality import Evaluation, Excerpt, Judged, Opinion, Vote
from pilotis.testing.online import MemoryPassages

SHORTEST_EXCERPT = 40


@dataclass(slots=True)
class _Run:
    evaluation: Evaluation
    order: Mapping[str, Any] | None
    rows: Sequence[Judged] = ()
    claimed_until: float = 0.0


class MemoryEvaluations:
    """See `ports.quality.Evaluations`. `passages` is the index."""

    def __init__(self, *, env: str = "dev", passages: MemoryPassages | None = None) -> None:
        self._env, self._passages = env, passages or MemoryPassages()
        self._runs: dict[str, _Run] = {}

    async def add(self, evaluation: Evaluation, *, order: Mapping[str, Any] | None = None) -> None:
        self._runs.setdefault(evaluation.id, _Run(replace(evaluation, env=self._env), order))

    async def finish(self, evaluation: Evaluation, rows: Sequence[Judged]) -> None:
        run = self._runs.get(evaluation.id)
        if run is None or run.evaluation.state not in {"waiting", "running"}:
            return
        ended = {name: getattr(evaluation, name) for name in ("state", "config", "figures", "error")}
        run.evaluation = replace(run.evaluation, **ended)
        run.rows, run.order = [read_row(row_document(row)) for row in rows], None

    async def get(self, run: str) -> Evaluation:
        return self._one(run).evaluation

    async def rows(self, run: str) -> Sequence[Judged]:
        return self._one(run).rows

    async def list(self, *, bu: str | None = None, golden: str | None = None, limit: int = 50) -> Sequence[Evaluation]:
        found = [one for one in self._sorted() if bu in {None, one.bu} and golden in {None, one.golden}]
        return found[:limit]

    async def latest(self, *, bu: str, golden: str, before: datetime | None = None) -> Evaluation | None:
        found = (one for one in self._sorted() if (one.bu, one.golden, one.state) == (bu, golden, "done"))
        return next((one for one in found if before is None or one.at < before), None)

    async def baseline(self, *, bu: str, golden: str) -> Evaluation | None:
        found = (one for one in self._sorted() if (one.bu, one.golden) == (bu, golden))
        return next((one for one in found if one.is_baseline), None)

    async def set_baseline(self, run: str) -> Evaluation:
        chosen = self._one(run)
        if chosen.evaluation.state != "done":
            raise not_done(chosen.evaluation)
        of = (chosen.evaluation.bu, chosen.evaluation.golden)
        for one in self._runs.values():
            if (one.evaluation.bu, one.evaluation.golden) == of:
                one.evaluation = replace(one.evaluation, is_baseline=one is chosen)
        return chosen.evaluation

    async def claim(self, *, lease_s: float) -> tuple[Evaluation, Mapping[str, Any]] | None:
        now = time.monotonic()
        for one in reversed(self._sorted()):
            run = self._runs[one.id]
            if run.order is None or not (one.state == "waiting" or (one.state == "running" and run.claimed_until < now)):
                continue
            run.evaluation, run.claimed_until = replace(one, state="running"), now + lease_s
            return run.evaluation, run.order
        return None

    async def renew(self, run: str, *, lease_s: float) -> None:
        self._one(run).claimed_until = time.monotonic() + lease_s

    async def excerpts(self, bu: str, *, collection: str | None = None, limit: int, seed: int = 0) -> Sequence[Excerpt]:  # noqa: ARG002 - in the order they came
        turns: Counter[str] = Counter()
        found = []
        for entry in self._passages.entries:
            hit = entry.hit
            if entry.bu == bu and collection in {None, hit.collection} and len(hit.text) >= SHORTEST_EXCERPT:
                turns[hit.document_id] += 1
                found.append((turns[hit.document_id], hit))
        return [
            Excerpt(
                passage_id=hit.passage_id,
                document=hit.document,
                collection=hit.collection,
                title=hit.title,
                headings=hit.headings,
                language=hit.language,
                text=hit.text,
            )
            for _, hit in sorted(found, key=lambda pair: (pair[0], pair[1].document_id))[:limit]
        ]

    def _sorted(self) -> Sequence[Evaluation]:
        return sorted((run.evaluation for run in self._runs.values()), key=lambda one: (one.at, one.id), reverse=True)

    def _one(self, run: str) -> _Run:
        found = [one for one in self._sorted() if run and one.id.startswith(run.lower())]
        return self._runs[only(found, run).id]


class MemoryFeedback:
    """See `ports.quality.Feedback`. `answers` gives the lines of the ledger, `passages` is the index."""

    def __init__(self, answers: Callable[[], Iterable[CostEvent]], passages: MemoryPassages | None = None) -> None:
        self._answers, self._passages = answers, passages or MemoryPassages()
        self._votes: dict[tuple[str, str], Opinion] = {}

    async def put(self, opinion: Opinion) -> Opinion:
        if not any((event.id, event.bu, event.kind) == (opinion.answer_id, opinion.bu, "answer") for event in self._answers()):
            raise no_answer(opinion.answer_id)
        if opinion.passage_id is not None:
            hit = next(
                (one.hit for one in self._passages.entries if (one.bu, one.hit.passage_id) == (opinion.bu, opinion.passage_id)),
                None,
            )
            if hit is None:
                raise no_passage(opinion)
            opinion = replace(opinion, document=hit.document)
        self._votes[opinion.answer_id, opinion.key] = opinion
        return opinion

    async def list(
        self, *, bu: str | None = None, vote: Vote | None = None, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Opinion]:
        texts = {entry.hit.passage_id: entry.hit.text for entry in self._passages.entries}
        found = [
            replace(one, excerpt=texts.get(one.passage_id or "")) for one in self._chosen(bu, since) if vote in {None, one.vote}
        ]
        return sorted(found, key=lambda one: (-one.at.timestamp(), one.answer_id, one.key))[:limit]

    async def counts(self, *, bu: str | None = None, since: datetime | None = None) -> Mapping[tuple[str, Vote], int]:
        return Counter((one.bu, one.vote) for one in self._chosen(bu, since))

    async def delete(self, bu: str, answer_id: str) -> int:
        gone = [place for place, one in self._votes.items() if (one.bu, one.answer_id) == (bu, answer_id)]
        for place in gone:
            del self._votes[place]
        return len(gone)

    def _chosen(self, bu: str | None, since: datetime | None) -> Sequence[Opinion]:
        return [one for one in self._votes.values() if bu in {None, one.bu} and (since is None or one.at >= since)]
