"""What the extractive answer says and what it declines, by the product's own road and database, on judged sets.

    python bench/answers.py DATA [--questions 300] [--json]

DATA holds one folder per set (corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.gz). Each set is a business unit. Its questions are asked

- of itself: answered, and where a set has short answers, how often the text holds one, of the questions whose passage was found;
- of every other set, which does not answer them;
- of a business unit that holds half of the articles only, the article of the question not among them (sets with titles that repeat);
- and those that the set itself calls unanswerable.

Half 0 is what the coefficients were fitted on, half 1 is not: articles (or, where each has one text, questions) by a digest.
"""

from __future__ import annotations

import gzip
import json
import logging
import random
import re
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from pathlib import Path

from common import Opened, Set, find_sets, measured, parser, read_set, report
from pilotis.derive.plan import Env, Plan
from pilotis.online.answer import Ask, Done, Passages, answer
from pilotis.ports import Deps
from quality import index

LONGEST_GOLD_WORDS = 12
"""A longer reference is a text of its own: no sentence holds it word for word."""
_ARTICLES = re.compile(r"\b(?:a|an|the|le|la|les|l|un|une|des|du|de|d)\b")


@dataclass(frozen=True, slots=True)
class Judged:
    """A set with its articles and reference answers."""

    set: Set
    titles: Mapping[str, str]
    golds: Mapping[str, Sequence[str]]
    unanswerable: Mapping[str, str]
    """Question id -> the passage it was written on."""

    def half(self, query: str) -> int:
        document = self.unanswerable.get(query) or next(iter(self.set.relevant[query]))
        return half(self.set.name, self.titles[document] if self.repeats else query)

    @property
    def repeats(self) -> bool:
        return len(set(self.titles.values())) < len(self.titles) / 2 and "" not in self.titles.values()


def half(name: str, key: str) -> int:
    return md5(f"{name}{key}".encode(), usedforsecurity=False).digest()[0] & 1


def judged(folder: Path) -> Judged:
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = read_set(folder)
    golds = {row["id"]: row["answers"] for row in rows if row.get("answers") and row["id"] in found.relevant}
    long = [len(answer.split()) for answers in golds.values() for answer in answers]
    return Judged(
        found,
        {row["id"]: row.get("title") or "" for row in found.corpus},
        golds if long and statistics.median(long) <= LONGEST_GOLD_WORDS else {},
        {row["id"]: row["source_passage"] for row in rows if row.get("is_impossible")},
    )


@dataclass(slots=True)
class Tally:
    """What became of the questions of one kind, by half."""

    asked: Counter[int]
    answered: Counter[int]
    found: Counter[int]
    held: Counter[int]
    words: list[int]

    def row(self, what: str) -> dict[str, object]:
        row: dict[str, object] = {"questions": what, "asked": self.asked.total()}
        for number in (0, 1):
            row[f"answered, half {number}"] = self.answered[number] / self.asked[number] if self.asked[number] else ""
        for number in (0, 1):
            row[f"holds the answer, half {number}"] = self.held[number] / self.found[number] if self.found[number] else ""
        row["words, median"] = statistics.median(self.words) if self.words else ""
        return row


class Bench:
    """One stack, and what is asked of it."""

    def __init__(self, opened: Opened, questions: int) -> None:
        self.plan, self.env, _, self.deps = opened
        self.questions = questions
        self.rows: list[dict[str, object]] = []

    def sample(self, ids: Sequence[str]) -> list[str]:
        ids = sorted(ids)
        return random.Random(11).sample(ids, self.questions) if len(ids) > self.questions else ids

    async def ask(self, what: str, given: Judged, bu: str, ids: Sequence[str], *, own: bool = False) -> None:
        tally = Tally(Counter(), Counter(), Counter(), Counter(), [])
        for query in ids:
            number, text = given.half(query), given.set.queries[query]
            names, said = await answered(Ask(bu=bu, text=text, streamed=True), self.env, self.plan, self.deps)
            tally.asked[number] += 1
            if said:
                tally.answered[number] += 1
                tally.words.append(len(said.split()))
            if own and query in given.golds and not given.set.relevant[query].keys().isdisjoint(names):
                tally.found[number] += 1
                tally.held[number] += holds(said, given.golds[query])
        self.rows.append(tally.row(what))
        print(self.rows[-1], file=sys.stderr)

    async def index(self, given: Set) -> None:
        print(f"indexing {given.name}", file=sys.stderr)
        await index(given, self.plan, self.env, self.deps)


async def answered(ask: Ask, env: Env, plan: Plan, deps: Deps) -> tuple[list[str], str]:
    """Names of the documents that were found, and the text without its marks; "" for "not found"."""
    names: list[str] = []
    said = ""
    async for event in answer(ask, env, plan, deps):
        if isinstance(event, Passages):
            names = [hit.document for hit in event.hits]
        elif isinstance(event, Done) and event.answer.found:
            said = re.sub(r" \[\d+\]", "", event.answer.text)
    return names, said


def holds(said: str, golds: Sequence[str]) -> bool:
    """Whether one of the reference answers stands in the text: lower case, without punctuation and articles, whole words."""
    text = f" {_plain(said)} "
    return any(plain and f" {plain} " in text for plain in map(_plain, golds))


def _plain(text: str) -> str:
    words = re.sub(r"[^\w\s]", " ", text.lower().replace("’", "'"))
    return " ".join(_ARTICLES.sub(" ", words).split())


async def run(folders: Sequence[Path], opened: Opened, questions: int, *, as_json: bool) -> None:
    bench = Bench(opened, questions)
    sets = [judged(folder) for folder in folders]
    for one in sets:
        await bench.index(one.set)
        await bench.ask(f"{one.set.name}, of itself", one, one.set.name, bench.sample([*one.set.relevant]), own=True)
        if one.unanswerable:
            await bench.ask(f"{one.set.name}, unanswerable", one, one.set.name, bench.sample([*one.unanswerable]))
    for one in sets:
        for other in sets:
            if one is not other:
                ids = bench.sample([*one.set.relevant])[: max(100, questions // 3)]
                await bench.ask(f"{one.set.name}, of {other.set.name}", one, other.set.name, ids)
    for one in (one for one in sets if one.repeats):
        kept = {document for document, title in one.titles.items() if half("kept", title)}
        part = replace(one.set, name=f"{one.set.name}-part", corpus=[row for row in one.set.corpus if row["id"] in kept])
        await bench.index(part)
        ids = bench.sample([query for query, documents in one.set.relevant.items() if kept.isdisjoint(documents)])
        await bench.ask(f"{one.set.name}, their article not there", one, part.name, ids)
    report("Extractive answers", bench.rows, as_json=as_json)


if __name__ == "__main__":
    # Nobody brings the books of a bench up to date: each request would say that it is served without budgets.
    logging.getLogger("pilotis.online").setLevel(logging.ERROR)
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--questions", type=int, default=300, help="asked of each kind at most")
    options = arguments.parse_args()
    measured(lambda opened: run(find_sets(options.data), opened, options.questions, as_json=options.json))
