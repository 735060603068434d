from __future__ import annotations

from pilotis.rag.ranking import DENSE_WEIGHT, FOREIGN_DENSE_WEIGHT, dense_weight


def test_vectors_weigh_less_in_a_language_their_model_does_not_know() -> None:
    assert dense_weight("en", {"en"}) == DENSE_WEIGHT
    assert dense_weight("fr", {"en"}) == FOREIGN_DENSE_WEIGHT < DENSE_WEIGHT


def test_a_model_of_all_languages_is_trusted_in_all() -> None:
    assert dense_weight("fr", None) == DENSE_WEIGHT
