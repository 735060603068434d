"""BM25 prepared for an inner product: a text becomes weighted terms, by the rules of its own language.

A passage keeps, for each of its terms, how much that term says about it (term frequency, saturated, and divided by the passage's
length); a question brings, for each of its terms, how rare it is. BM25 is then the inner product of the two, which the database
computes exactly and in C over sparse vectors.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with Lucene's non-negative idf.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files

from Stemmer import Stemmer

ANALYSIS_VERSION = 1
"""Raised whenever the same text would give other terms: passages must then be analysed again."""

DIMENSIONS = 1_000_000_000
"""Term ids lie in 1..DIMENSIONS, pgvector's limit for the indices of a sparse vector."""

K1, B, PIVOT_TERMS = 1.2, 0.75, 100.0
"""`PIVOT_TERMS` stands for the mean passage length: passages are cut to one size, so it is a constant and weights never go stale."""

_STEMMERS = {
    "da": "danish", "de": "german", "en": "english", "es": "spanish", "fi": "finnish", "fr": "french", "hu": "hungarian",
    "it": "italian", "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sv": "swedish",
}  # fmt: skip
_WORD = re.compile(r"[^\W_]+")
_LONGEST_WORD = 64


def passage_weights(text: str, *, language: str, scope: str) -> dict[int, float]:
    """Term id -> BM25 weight of the term in this passage, without its rarity."""
    counts = Counter(terms(text, language))
    norm = K1 * (1 - B + B * counts.total() / PIVOT_TERMS)
    return {term_id(term, language, scope): n * (K1 + 1) / (n + norm) for term, n in counts.items()}


def question_terms(text: str, *, language: str, languages: Sequence[str], scope: str) -> list[int]:
    """Term ids of a question in `language`, analysed by each of `languages` in turn: a passage matches by the rules of its own."""
    found = {term_id(term, own, scope): None for own in languages for term in terms(text, own, asked_in=language)}
    return list(found)


@lru_cache(maxsize=65_536)
def term_id(term: str, language: str, scope: str) -> int:
    """A stable id in 1..DIMENSIONS. The scope (a business unit) is part of it: no two units share a posting list."""
    digest = blake2b(f"{scope}\0{language}\0{term}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % DIMENSIONS + 1


def terms(text: str, language: str, *, asked_in: str | None = None) -> list[str]:
    """The words of a text that carry meaning, in order: lower case, without accents, stemmed, stop words left out.

    For a question, also those of the language it is `asked_in`: the "que" of a French question is a rare word to an English index.
    """
    # Composed first: a combining accent is no letter to the pattern, and would cut a word in two.
    whole = text if text.isascii() else unicodedata.normalize("NFKC", text)
    words = _WORD.findall(whole.lower())
    if asked_in is not None and asked_in != language:
        words = [word for word in words if _term(word, asked_in) is not None]
    found = [_term(word, language) for word in words]
    return [term for term in found if term is not None]


@lru_cache(maxsize=65_536)
def _term(word: str, language: str) -> str | None:
    """A word's stem, None for a stop word. People type both `accès` and `acces`: accents go before the stemmer sees them."""
    folded = word
    if not word.isascii():
        folded = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    folded = folded[:_LONGEST_WORD]
    if folded in _stop_words(language):
        return None
    return _stemmer(language).stemWord(folded) if language in _STEMMERS else folded


@lru_cache
def _stemmer(language: str) -> Stemmer:
    return Stemmer(_STEMMERS[language], 20_000)


@lru_cache
def _stop_words(language: str) -> frozenset[str]:
    source = files("pilotis.rag").joinpath("stopwords", f"{language}.txt")
    return frozenset(source.read_text().split()) if source.is_file() else frozenset()
