"""Which of the allowed languages a text is in, from a two-word question to a long document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SAMPLE_CHARACTERS = 4_000
"""What is looked at of a long text."""

_SURE = 0.7
"""Below this probability py3langid's guess on short text is a coin toss: "git rebase" is French to it, with 0.61."""

_NOISE = re.compile(r"```.{0,20000}?```|`[^`\n]{1,200}`|https?://\S{1,500}|\]\([^)\s]{1,500}\)", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+['’]?")
_FRENCH_LETTER = re.compile(r"[àâçèêëîïôùûœÀÂÇÈÊËÎÏÔÙÛŒ]|[éÉ](?!s?$)")

_ENGLISH_WORDS = (
    "the of and to is are was were be been being this that these those with from by for you your we our they their it its he she his "
    "her which what when where why who how can could should would will does did do has have had not if then than there into about "
    "between because while after before any each some such only also more most other an as at or no"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_FRENCH_WORDS = (
    "le la les des du de un une et est sont était étaient être été dans pour par avec sans sur sous aux au ce cet cette ces mon ma mes "
    "ton ta tes ses notre nos votre vos leur leurs qui que quoi dont où ou quel quelle quels quelles comment pourquoi quand combien il "
    "elle ils elles nous vous je tu ne pas plus mais donc ni si se sa lui en y a ont avez avons peut doit faut fait très aussi "
    "entre depuis pendant chez vers lorsque afin ainsi alors"
)
_FRENCH = frozenset(_FRENCH_WORDS.split())
_ELISION_WORDS = "l d c j n s m t qu jusqu lorsqu puisqu aujourd"
_ELISION = frozenset(_ELISION_WORDS.split())
_BOTH = _ENGLISH & _FRENCH | {"a", "se", "si", "en", "on", "y", "sa", "ma", "ton", "plus", "or"}


def detect(text: str, languages: Sequence[str]) -> str:
    """One of `languages` (ISO 639-1): by function words and accents between English and French, else by py3langid.

    The first of `languages` where nothing tells ("FastAPI"), so put the corpus' own language first.
    """
    if len(languages) == 1:
        return languages[0]
    sample = _NOISE.sub(" ", text[: 2 * SAMPLE_CHARACTERS])[:SAMPLE_CHARACTERS]
    if set(languages) == {"en", "fr"}:
        found = _english_or_french(sample)
        if found is not None:
            return found
    return _by_model(sample, tuple(languages)) or languages[0]


def _english_or_french(text: str) -> str | None:
    english = french = 0
    for match in _WORD.finditer(text):
        word = match[0].lower()
        if word[-1] in "'’":
            french += word[:-1] in _ELISION
            continue
        english += word in _ENGLISH and word not in _BOTH
        french += word in _FRENCH and word not in _BOTH
        if not word.isascii() and _FRENCH_LETTER.search(word):
            french += 1
    if max(english, french) >= 2 * min(english, french) + 1:
        return "en" if english > french else "fr"
    return None


def _by_model(text: str, languages: tuple[str, ...]) -> str | None:
    if not any(character.isalpha() for character in text):
        return None
    identifier = _identifier(languages)
    if identifier is None:
        return None
    language, probability = identifier.classify(text)
    return str(language) if probability >= _SURE else None


@lru_cache(maxsize=8)
def _identifier(languages: tuple[str, ...]) -> LanguageIdentifier | None:
    """py3langid cut down to `languages`: 53 MB instead of 78 MB; None where it knows fewer than two of them."""
    # Imported on first use: half a second and 50 MB that a process which only meets clear questions never pays.
    import numpy as np
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    known = [language for language in languages if language in model.nb_classes]
    if len(known) < 2:
        return None
    model.set_languages(known)
    weights, priors = np.ascontiguousarray(model.nb_ptc), model.nb_pc
    return LanguageIdentifier(
        weights, priors, model.nb_classes, model.tk_nextmove, model.tk_output, norm_probs=True, tk_row=model.tk_row
    )
