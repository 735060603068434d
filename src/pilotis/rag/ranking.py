"""How dense and lexical scores become one, and how a ranking is judged.

The fusion is a weighted sum of both scores, each divided by the best of its kind for the question (a convex combination; see Bruch,
Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023). Unlike fusion of ranks it keeps the margins: where
one passage alone holds the rare words of the question, its lexical lead survives; where the words say little, all lexical scores are
close and the vectors decide. The sum itself is computed by the search statement, for every candidate of either list.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from pilotis.rag.evidence import ASKING, Source, question_names
from pilotis.rag.lexical import terms
from pilotis.rag.question import Question

S = TypeVar("S", bound=Source)

DENSE_WEIGHT = 0.45
"""Share of the dense score where the model knows the question's language; measured flat between 0.3 and 0.5."""

FOREIGN_DENSE_WEIGHT = 0.3
"""The same where it does not: its vectors still see names and shared words, and no more."""

REREAD = 10
"""How many of the first passages are read again; further ones gain nothing."""
PHRASE_WEIGHT, NAME_WEIGHT = 0.4, 0.3
"""Beside a fused score that is about 1 for the best passage. Flat from 0.3 to 0.5; names say nothing new where vectors are trusted."""
ELSEWHERE = 20
"""Passages imagined that hold none of the words: among few passages about one thing its name is not yet common."""


def dense_weight(language: str, known: Collection[str] | None) -> float:
    """Share of the dense score for a question in `language`, given the languages the embedding model knows (None: all)."""
    return DENSE_WEIGHT if known is None or language in known else FOREIGN_DENSE_WEIGHT


def by_phrases(question: Question, passages: Sequence[S], *, known: Collection[str] | None) -> list[S]:
    """Order the first passages anew: those that hold words of the question side by side, as it does, move up.

    BM25 and vectors both read a passage as a bag of words. To the fused score is added the share of the question's pairs of
    neighbouring words that stand side by side in the passage, rare words weighing more; and, where the embedding model does not
    know the question's language, the share of its names and numbers that occur.
    """
    read = passages[:REREAD]
    texts = [terms(passage.text, passage.language) for passage in read]
    pairs: dict[str, dict[tuple[str, str], float]] = {}
    for language in {passage.language for passage in read}:
        words = [term for term in terms(question.text, language, asked_in=question.language) if term not in ASKING]
        counts = Counter(term for text in texts for term in set(words).intersection(text))
        rarity = {term: math.log(1 + (len(read) + ELSEWHERE - counts[term] + 0.5) / (counts[term] + 0.5)) for term in words}
        pairs[language] = {(one, other): rarity[one] + rarity[other] for one, other in pairwise(words)}
    names = frozenset[str]() if known is None or question.language in known else question_names(question)
    again = []
    for passage, text in zip(read, texts, strict=True):
        wanted = pairs[passage.language]
        score = passage.score
        if wanted:
            score += PHRASE_WEIGHT * sum(wanted[pair] for pair in wanted.keys() & set(pairwise(text))) / sum(wanted.values())
        if names:
            whole = " ".join((passage.title or "", *passage.headings, passage.text)).casefold()
            score += NAME_WEIGHT * sum(name in whole for name in names) / len(names)
        again.append(replace(passage, score=score))  # type: ignore[type-var]  # every source is a dataclass
    return sorted(again, key=lambda passage: -passage.score) + list(passages[REREAD:])


def distinct(passages: Sequence[S]) -> list[S]:
    """Without those that say the same, word for word, as one before: copies of a page, or a notice that stands on every page.

    For whoever pays by the token; a list of results keeps them, for each is a place where it is said.
    """
    first: dict[str, S] = {}
    for passage in passages:
        first.setdefault(passage.text.strip().casefold(), passage)
    return list(first.values())
