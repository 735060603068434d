from __future__ import annotations

from dataclasses import dataclass

import pytest

from pilotis.rag.question import Question, normalise
from pilotis.rag.ranking import (
    DENSE_WEIGHT,
    FOREIGN_DENSE_WEIGHT,
    NAME_WEIGHT,
    PHRASE_WEIGHT,
    REREAD,
    by_phrases,
    dense_weight,
    distinct,
)


@dataclass(frozen=True)
class Passage:
    text: str
    score: float = 1.0
    language: str = "en"
    title: str | None = None
    headings: tuple[str, ...] = ()
    dense: float = 0.5


def question(text: str, language: str = "en") -> Question:
    return Question(text=text, normalised=normalise(text), language=language)


def test_vectors_weigh_less_in_a_language_their_model_does_not_know() -> None:
    assert dense_weight("en", {"en"}) == DENSE_WEIGHT
    assert dense_weight("fr", {"en"}) == FOREIGN_DENSE_WEIGHT < DENSE_WEIGHT


def test_a_model_of_all_languages_is_trusted_in_all() -> None:
    assert dense_weight("fr", None) == DENSE_WEIGHT


def test_a_passage_that_holds_the_words_side_by_side_moves_up() -> None:
    apart = Passage("Heat flows by slow transfer; layers form no boundary.", score=0.9)
    beside = Passage("It treats heat transfer in the boundary layer.", score=0.8)
    other = Passage("Nothing of the kind.", score=0.7)
    ranked = by_phrases(question("Which heat transfer occurs in a boundary layer?"), [apart, beside, other], known={"en"})
    assert [passage.text for passage in ranked] == [beside.text, apart.text, other.text]
    assert ranked[0].score > beside.score
    assert ranked[2].score == other.score


def test_a_rare_pair_says_more_than_a_common_one() -> None:
    common = [Passage(f"A wind tunnel was used in test number {n}.", score=0.5) for n in range(5)]
    rare = Passage("The shock wave moved.", score=0.5)
    ranked = by_phrases(question("Where does the shock wave stand in the wind tunnel?"), [*common, rare], known={"en"})
    assert ranked[0].text == rare.text


def test_every_passage_is_read_by_the_rules_of_its_own_language() -> None:
    french = Passage("Les congés payés sont demandés.", score=0.8, language="fr")
    english = Passage("Paid by the company.", score=0.9)
    ranked = by_phrases(question("Qui demande des congés payés ?", "fr"), [english, french], known={"fr"})
    assert ranked[0].text == french.text


def test_names_count_where_the_model_does_not_know_the_language() -> None:
    without, named = (
        Passage("Une bataille.", language="fr"),
        Passage("Une bataille.", score=0.9, language="fr", title="Kars 1828"),
    )
    asked = question("Que se passe-t-il à Kars en 1828 ?", "fr")
    assert by_phrases(asked, [without, named], known={"en"})[0] == Passage(
        "Une bataille.", score=0.9 + NAME_WEIGHT, language="fr", title="Kars 1828"
    )
    assert by_phrases(asked, [without, named], known=None)[0] == without


def test_nothing_is_added_without_a_pair_to_look_for() -> None:
    passages = [Passage("The castle."), Passage("A tower.", score=0.4)]
    assert by_phrases(question("castle"), passages, known={"en"}) == passages
    assert by_phrases(question("?"), passages, known={"en"}) == passages
    assert by_phrases(question("castle tower"), [], known={"en"}) == []


def test_only_the_first_passages_are_read_again_and_none_is_lost() -> None:
    passages = [Passage(f"text {n}", score=1 - n / 100) for n in range(REREAD + 3)]
    last = Passage("heat transfer", score=0.5)
    ranked = by_phrases(question("heat transfer"), [*passages, last], known={"en"})
    assert ranked == [*passages, last]
    assert by_phrases(question("heat transfer"), [passages[0], last], known={"en"})[1].score == pytest.approx(
        0.5 + PHRASE_WEIGHT
    )


def test_copies_are_left_out_and_the_best_stays() -> None:
    one, copy, near = Passage("Open 24 h.", 0.9), Passage(" open 24 H.\n", 0.8), Passage("Open 23 h.", 0.7)
    assert distinct([one, copy, near]) == [one, near]
