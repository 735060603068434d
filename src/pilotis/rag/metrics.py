"""How good one ranking, one answer and its citations are. Each figure is of one question, from 0 to 1, higher is better.

A ranking comes as its gains: how much the passage at each rank is worth, the first rank first, 0 where it is not what was asked for.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_ARTICLES = {
    "en": re.compile(r"\b(?:a|an|the)\b"),
    "fr": re.compile(r"\b(?:le|la|les|un|une|des|du)\b"),
}
_ELIDED = re.compile(r"\b[ld]['’]")
_MARK = re.compile(r"\[\d+\]")


def hit(gains: Sequence[float], k: int) -> float:
    """1 where any of the first `k` is relevant, else 0: success@k of trec_eval."""
    return float(any(gain > 0 for gain in gains[:k]))


def reciprocal_rank(gains: Sequence[float], k: int = 10) -> float:
    """1 over the rank of the first relevant one, 0 where none is among the first `k`.

    Source: Voorhees, "The TREC-8 Question Answering Track Report" (1999).
    """
    return next((1 / rank for rank, gain in enumerate(gains[:k], 1) if gain > 0), 0.0)


def ndcg(gains: Sequence[float], ideal: Sequence[float], k: int = 10) -> float:
    """Discounted gain of the first `k` over that of the best order there is; `ideal` are the grades of all that is relevant.

    Linear gains, discount log2(rank + 1), as trec_eval's ndcg_cut. 0 where nothing is relevant.
    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002).
    """
    best = _dcg(sorted(ideal, reverse=True)[:k])
    return _dcg(gains[:k]) / best if best > 0 else 0.0


def exact_match(answer: str, references: Sequence[str], *, language: str = "en") -> float:
    """1 where the answer is one of the references, both normalised; see `normalised`."""
    given = normalised(answer, language)
    return float(any(given == normalised(reference, language) for reference in references))


def token_f1(answer: str, references: Sequence[str], *, language: str = "en") -> float:
    """Harmonic mean of precision and recall of the words, with the reference that fits best.

    Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016), evaluate-v2.0.py.
    """
    return max((_f1(normalised(answer, language), normalised(one, language)) for one in references), default=0.0)


def contains(answer: str, references: Sequence[str], *, language: str = "en") -> float:
    """1 where a reference occurs in the answer, in whole words, both normalised: what a quotation can be measured by."""
    given = f" {normalised(answer, language)} "
    return float(any(f" {normalised(reference, language)} " in given for reference in references))


def citation_precision(relevant: Sequence[bool]) -> float | None:
    """Share of the cited passages that are relevant, None where none is cited.

    Source: Gao et al., "Enabling Large Language Models to Generate Text with Citations" (2023); relevance is judged by the golden set,
    not by a model.
    """
    return sum(relevant) / len(relevant) if relevant else None


@lru_cache(maxsize=4096)
def normalised(text: str, language: str = "en") -> str:
    """Lower case, without punctuation, articles and citation marks, single spaces: SQuAD's normalisation, and the same for French.

    French elisions (l', d') go as articles do. Where nothing but articles is left, they stay.
    """
    plain = unicodedata.normalize("NFC", _MARK.sub(" ", text)).lower()
    if language == "fr":
        plain = _ELIDED.sub(" ", plain)
    plain = " ".join("".join("" if _is_punctuation(character) else character for character in plain).split())
    bare = " ".join(_ARTICLES.get(language, _ARTICLES["en"]).sub(" ", plain).split())
    return bare or plain


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or (not character.isascii() and unicodedata.category(character).startswith("P"))


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _f1(answer: str, reference: str) -> float:
    given, wanted = answer.split(), reference.split()
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted))
