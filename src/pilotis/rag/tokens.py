"""How many word pieces a text is to the local embedding model, estimated without its tokenizer."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_LONG_NUMBER = re.compile(r"\d{4,}")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LONGEST = 400
_DIGIT = 0.6


def _costs(known: tuple[float, ...]) -> list[float]:
    """Word pieces by word length, past the measured ones by a piece for each 2.5 characters."""
    return [0.0, *known, *(length / 2.5 for length in range(len(known) + 1, _LONGEST))]


_ENGLISH = _costs((1.0, 1.05, 1.1, 1.1, 1.2, 1.25, 1.5, 1.4, 1.4, 1.5, 2.05, 2.2, 1.9, 2.5, 3.3, 4.6, 4.6))
_OTHER = _costs((1.0, 1.03, 1.15, 1.5, 1.65, 1.95, 2.3, 2.4, 2.55, 2.55, 2.55, 2.65, 2.65, 3.3, 3.7, 4.1, 5.4))


def approximate_tokens(text: str, language: str = "en") -> int:
    """Word pieces of `text` under the vocabulary of all-MiniLM-L6-v2, which is English: other languages break into more.

    Mean pieces by word length, measured on technical documentation in English and French.
    """
    costs = _ENGLISH if language == "en" else _OTHER
    total = 0.0
    for word in _WORD.findall(text):
        length = len(word)
        total += costs[length] if length < _LONGEST else length / 2.5
    if not text.isascii():
        total += sum(0.6 for _ in _IDEOGRAPH.finditer(text))
    for number in _LONG_NUMBER.findall(text):
        total += max(0.0, len(number) * _DIGIT - (costs[len(number)] if len(number) < _LONGEST else 0))
    return round(total)
