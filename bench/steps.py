"""What each step of retrieval gains and costs, on judged sets, through the product's own database.

    python bench/steps.py DATA [--only SET] [--questions 1000] [--all] [--json]

Every step is the one before it and something more; those marked "not kept" are measured beside the last one. Figures are hit@5 and
nDCG@10 in per cent for two halves of the questions: what was fitted was fitted on the first and chosen on both. `--all` also indexes
each set without titles and embeds each sentence, which takes three times as long.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import Success, nDCG

from answers import Judged, judged
from common import Opened, find_sets, measured, parser, report
from pilotis.ports import Deps, Hit, Query, Vectors
from pilotis.rag.question import Question, parse
from pilotis.rag.ranking import DENSE_WEIGHT, by_phrases, dense_weight, distinct
from pilotis.rag.sentence import sentences
from quality import DEPTH, index

SENTENCE_WEIGHT = 0.4
"""Beside the fused score; fitted, as the others are."""

Reorder = Callable[[Question, Vectors, Sequence[Hit]], Sequence[Hit]]


def as_found(_question: Question, _vector: Vectors, hits: Sequence[Hit]) -> Sequence[Hit]:
    return hits


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A set's questions, to be put to the business unit `bu`, whose documents are the set's `names`."""

    deps: Deps
    given: Judged
    asked: Sequence[str]
    questions: Sequence[Question]
    vectors: Vectors
    rows: dict[str, dict[str, object]]
    bu: str
    names: dict[str, str]

    def weight(self, question: Question) -> float:
        return dense_weight(question.language, self.deps.embedder.languages)

    def phrases(self, question: Question, _vector: Vectors, hits: Sequence[Hit]) -> Sequence[Hit]:
        return by_phrases(question, hits, known=self.deps.embedder.languages)

    def without_copies(self, question: Question, vector: Vectors, hits: Sequence[Hit]) -> Sequence[Hit]:
        return distinct(self.phrases(question, vector, hits))

    async def found(self, question: Question, vector: Vectors, weight: float) -> Sequence[Hit]:
        return await self.deps.passages.search(
            Query(
                bu=self.bu,
                text=question.text,
                language=question.language,
                vector=vector if weight else None,
                top_k=DEPTH,
                dense_weight=weight,
            )
        )

    async def measure(self, name: str, reorder: Reorder = as_found, weight: float | None = None) -> None:
        """Add the figures of a step to its row."""
        run: dict[int, list[ir_measures.ScoredDoc]] = {0: [], 1: []}
        search_s = reorder_s = 0.0
        for query, question, vector in zip(self.asked, self.questions, self.vectors, strict=True):
            began = time.perf_counter()
            hits = await self.found(question, vector, self.weight(question) if weight is None else weight)
            between = time.perf_counter()
            hits = reorder(question, vector, hits)
            search_s, reorder_s = search_s + between - began, reorder_s + time.perf_counter() - between
            documents = list(dict.fromkeys(self.names[hit.document_id] for hit in hits))[:10]
            run[self.given.half(query)] += [ir_measures.ScoredDoc(query, name, 10.0 - n) for n, name in enumerate(documents)]
        row, short = self.rows.setdefault(name, {"step": name}), self.given.set.name.partition("-")[0]
        row[short] = ", ".join(self._scores(half, ranked) for half, ranked in run.items())
        row[f"{short} ms"] = f"{search_s / len(self.asked) * 1e3:.1f} + {reorder_s / len(self.asked) * 1e3:.2f}"
        print(self.given.set.name, name, row[short], row[f"{short} ms"], file=sys.stderr)

    def _scores(self, half: int, ranked: Sequence[ir_measures.ScoredDoc]) -> str:
        truth = [
            ir_measures.Qrel(query, document, grade)
            for query in self.asked
            if self.given.half(query) == half
            for document, grade in self.given.set.relevant[query].items()
        ]
        scores = ir_measures.calc_aggregate([Success @ 5, nDCG @ 10], truth, ranked)
        return f"{100 * scores[Success @ 5]:.1f} / {100 * scores[nDCG @ 10]:.1f}"


async def run(folders: Sequence[Path], opened: Opened, questions: int, *, everything: bool, as_json: bool) -> None:
    plan, env, _, deps = opened
    rows: dict[str, dict[str, object]] = {}
    for folder in folders:
        given = judged(folder)
        asked = sorted(given.set.relevant)
        asked = random.Random(20240607).sample(asked, questions) if len(asked) > questions else asked
        parsed = [parse(given.set.queries[query], languages=env.languages) for query in asked]
        steps = Steps(
            deps=deps,
            given=given,
            asked=asked,
            questions=parsed,
            vectors=np.concatenate([await deps.embedder.embed([question.text]) for question in parsed]),
            rows=rows,
            bu=given.set.name,
            names=await index(given.set, plan, env, deps),
        )
        await steps.measure("words alone", weight=0.0)
        await steps.measure("vectors alone", weight=1.0)
        await steps.measure("both, one weight", weight=DENSE_WEIGHT)
        await steps.measure("both, weighed by language")
        await steps.measure("+ words side by side", steps.phrases)
        if everything:
            await steps.measure("not kept: + copies left out of the results", steps.without_copies)
            await steps.measure("not kept: + sentence vectors", await by_sentences(steps))
            bare = replace(given.set, name=f"{given.set.name}-bare")
            untitled = replace(steps, bu=bare.name, names=await index(bare, plan, env, deps, titles=False))
            await untitled.measure("without titles", untitled.phrases)
    report("Steps of retrieval", list(rows.values()), as_json=as_json)


async def by_sentences(steps: Steps) -> Reorder:
    """Embed every sentence of what any question finds, then order by the nearest one, too. Prints what that takes."""
    found = [await steps.found(q, v, steps.weight(q)) for q, v in zip(steps.questions, steps.vectors, strict=True)]
    texts: list[str] = []
    owners: dict[str, list[int]] = {}
    for hit in {hit.passage_id: hit for hits in found for hit in hits}.values():
        for start, end in sentences(hit.text, hit.language):
            owners.setdefault(hit.passage_id, []).append(len(texts))
            texts.append(hit.text[start:end])
    began = time.perf_counter()
    vectors = await steps.deps.embedder.embed(texts)
    took_s, size = time.perf_counter() - began, vectors.nbytes // 2 // len(owners)  # the index keeps two bytes for a number
    print(f"{len(texts)} sentences of {len(owners)} passages: {took_s:.0f} s, {size} bytes for each passage", file=sys.stderr)

    def reorder(question: Question, vector: Vectors, hits: Sequence[Hit]) -> Sequence[Hit]:
        first = steps.phrases(question, vector, hits)
        near = [float((vectors[owners[hit.passage_id]] @ vector).max()) if hit.passage_id in owners else 0.0 for hit in first]
        again = [replace(hit, score=hit.score + SENTENCE_WEIGHT * one) for hit, one in zip(first, near, strict=True)]
        return sorted(again, key=lambda hit: -hit.score)

    return reorder


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--only", action="append", default=[], help="name of a set; may be repeated")
    arguments.add_argument("--questions", type=int, default=1000, help="asked of each set at most")
    arguments.add_argument("--all", action="store_true", help="also what was not kept")
    options = arguments.parse_args()
    chosen = [folder for folder in find_sets(options.data) if not options.only or folder.name in options.only]
    measured(lambda opened: run(chosen, opened, options.questions, everything=options.all, as_json=options.json))
