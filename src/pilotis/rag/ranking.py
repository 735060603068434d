"""How dense and lexical scores become one, and how a ranking is judged.

The fusion is a weighted sum of both scores, each divided by the best of its kind for the question (a convex combination; see Bruch,
Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023). Unlike fusion of ranks it keeps the margins: where
one passage alone holds the rare words of the question, its lexical lead survives; where the words say little, all lexical scores are
close and the vectors decide. The sum itself is computed by the search statement, for every candidate of either list.
"""

from __future__ import annotations

from collections.abc import Collection

DENSE_WEIGHT = 0.45
"""Share of the dense score where the model knows the question's language; measured flat between 0.3 and 0.5."""

FOREIGN_DENSE_WEIGHT = 0.3
"""The same where it does not: its vectors still see names and shared words, and no more."""


def dense_weight(language: str, known: Collection[str] | None) -> float:
    """Share of the dense score for a question in `language`, given the languages the embedding model knows (None: all)."""
    return DENSE_WEIGHT if known is None or language in known else FOREIGN_DENSE_WEIGHT
