from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pilotis.rag.lexical import DIMENSIONS, K1, PIVOT_TERMS, B, passage_weights, question_terms, term_id, terms


def weights(text: str, language: str = "en", scope: str = "bu") -> dict[int, float]:
    return passage_weights(text, language=language, scope=scope)


def matches(question: str, passage: str, language: str) -> int:
    return len(
        set(question_terms(question, language="en", languages=("en", "fr"), scope="bu")) & set(weights(passage, language))
    )


def test_a_passage_matches_by_the_stemming_of_its_own_language() -> None:
    assert matches("Which migrations are running?", "A migration runs.", "en") == 2
    assert matches("Quelles règles appliquer ?", "La règle s’applique", "fr") == 2
    # The English stemmer makes "generous" of "generously"; the French one does not know the suffix.
    assert matches("generous", "generously", "en") == 1
    assert matches("generous", "generously", "fr") == 0


def test_accents_and_case_do_not_matter() -> None:
    assert set(weights("Accès refusé", "fr")) == set(weights("ACCES REFUSE", "fr"))


def test_stop_words_carry_nothing() -> None:
    assert weights("what is the", "en") == {}
    assert question_terms("qu'est-ce que c'est", language="fr", languages=("fr",), scope="bu") == []


def test_weights_are_those_of_bm25() -> None:
    found = weights("timeout timeout timeout retry", "en")
    norm = K1 * (1 - B + B * 4 / PIVOT_TERMS)
    assert found[term_id("timeout", "en", "bu")] == 3 * (K1 + 1) / (3 + norm)
    assert found[term_id("retri", "en", "bu")] == 1 * (K1 + 1) / (1 + norm)


def test_a_long_passage_says_less_per_occurrence() -> None:
    short, long = weights("budget"), weights("budget " + " ".join(f"word{n}" for n in range(300)))
    term = term_id("budget", "en", "bu")
    assert long[term] < short[term] < K1 + 1


def test_business_units_share_no_term() -> None:
    assert not set(weights("the same words", scope="a")) & set(weights("the same words", scope="b"))


def test_the_stop_words_of_a_french_question_are_no_rare_words_of_an_english_index() -> None:
    asked = question_terms("Qu'est-ce que la pseudonymisation ?", language="fr", languages=("fr", "en"), scope="bu")
    assert asked == [term_id(terms("pseudonymisation", own)[0], own, "bu") for own in ("fr", "en")]


def test_a_question_is_analysed_once_per_language_without_repeats() -> None:
    terms = question_terms("docker docker", language="en", languages=("en", "fr"), scope="bu")
    assert len(terms) == len(set(terms)) == 2


@given(st.text(max_size=500), st.sampled_from(["en", "fr", "de", "zz"]))
def test_any_text_gives_weights_pgvector_accepts(text: str, language: str) -> None:
    for term, weight in weights(text, language).items():
        assert 1 <= term <= DIMENSIONS
        assert 0 < weight < K1 + 1
        assert math.isfinite(weight)
