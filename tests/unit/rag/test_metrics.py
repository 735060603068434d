"""The figures of one question, against ir_measures (rankings) and the published examples of SQuAD's script (answers)."""

from __future__ import annotations

import random
from statistics import fmean

import ir_measures
import pytest
from ir_measures import RR, Success, nDCG

from pilotis.rag import metrics
from pilotis.rag.golden import Expected, gains

QUESTIONS = 60


@pytest.mark.parametrize("seed", range(5))
def test_rankings_are_measured_as_trec_eval_does(seed: int) -> None:
    draw = random.Random(seed)
    documents = [f"d{n}" for n in range(30)]
    run, truth, own = [], [], []
    for n in range(QUESTIONS):
        grades = {one: draw.randint(1, 4) for one in draw.sample(documents, draw.randint(1, 12))}
        ranked = draw.sample(documents, draw.randint(1, 20))
        run += [ir_measures.ScoredDoc(str(n), one, 100.0 - rank) for rank, one in enumerate(ranked)]
        truth += [ir_measures.Qrel(str(n), one, grade) for one, grade in grades.items()]
        expected = [Expected(document=one, grade=grade) for one, grade in grades.items()]
        worth = gains([(one, "", "") for one in ranked], expected)
        own.append(
            (
                metrics.hit(worth, 1),
                metrics.hit(worth, 5),
                metrics.reciprocal_rank(worth, 10),
                metrics.ndcg(worth, list(grades.values()), 10),
            )
        )
    asked = [Success @ 1, Success @ 5, RR @ 10, nDCG @ 10]
    theirs = ir_measures.calc_aggregate(asked, truth, run)
    for measure, column in zip(asked, zip(*own, strict=True), strict=True):
        assert fmean(column) == pytest.approx(theirs[measure], abs=1e-9), str(measure)


def test_nothing_expected_is_worth_nothing() -> None:
    assert metrics.ndcg([0, 0], []) == 0
    assert metrics.reciprocal_rank([0] * 10 + [1]) == 0
    assert metrics.hit([0, 0, 0, 0, 0, 1], 5) == 0


def test_a_repeated_find_takes_no_rank() -> None:
    expected = [Expected(document="a"), Expected(document="b")]
    assert gains([("a", "1", ""), ("a", "2", ""), ("c", "3", ""), ("b", "4", "")], expected) == [1, 0, 1]


def test_one_passage_may_hold_two_expected_things() -> None:
    expected = [Expected(document="a", quote="red fish"), Expected(document="a", quote="blue fish", grade=3)]
    worth = gains([("a", "1", "red fish, BLUE\nfish")], expected)
    assert worth == [3, 1]
    assert metrics.ndcg(worth, [1, 3]) == 1


@pytest.mark.parametrize(
    ("answer", "references", "language", "figures"),
    [
        ("The Eiffel Tower.", ["Eiffel tower"], "en", (1, 1, 1)),
        ("It stands in the city of Paris [2].", ["Paris", "Rome"], "en", (0, 2 / 7, 1)),
        ("a cat sat", ["the dog"], "en", (0, 0, 0)),
        ("L’école du Louvre", ["école Louvre"], "fr", (1, 1, 1)),
        ("C'est « la tour Eiffel ».", ["tour Eiffel"], "fr", (0, 0.8, 1)),
        ("Paris", [], "en", (0, 0, 0)),
        ("12 million", ["2 million"], "en", (0, 0.5, 0)),
        ("the", ["The"], "en", (1, 1, 1)),
        ("", ["the"], "en", (0, 0, 0)),
    ],
)
def test_answers(answer: str, references: list[str], language: str, figures: tuple[float, ...]) -> None:
    measured = (metrics.exact_match, metrics.token_f1, metrics.contains)
    assert tuple(one(answer, references, language=language) for one in measured) == pytest.approx(figures)


def test_citations() -> None:
    assert metrics.citation_precision([True, False, True, True]) == 0.75
    assert metrics.citation_precision([]) is None
