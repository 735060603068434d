"""What a caller typed becomes a question: checked, in one Unicode form, with its language and the form that keys use."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pilotis.errors import Invalid
from pilotis.rag.language import detect

MAX_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question fit to be searched.

    `text` is NFC with whitespace collapsed; `normalised` is NFKC, case-folded and without closing punctuation: two questions with
    the same `normalised` are the same question. `language` is an ISO 639-1 code.
    """

    text: str
    normalised: str
    language: str


def parse(text: str, *, languages: Sequence[str], max_characters: int = MAX_CHARACTERS) -> Question:
    """Check `text` and detect which of `languages` it is in.

    Raises:
        Invalid: empty (422 `empty_question`), too long (413 `question_too_long`), or holding characters that are no text
            (422 `invalid_character`).
    """
    if len(text) > max_characters:
        raise Invalid(
            f"the question has {len(text):,} characters; the limit is {max_characters:,}",
            remedy="ask a shorter question; long material belongs in a document",
            status=413,
            code="question_too_long",
        )
    check_characters(text, "the question")
    clean = " ".join(unicodedata.normalize("NFC", text).split())
    if not any(character.isalnum() for character in clean):
        found = "holds no word" if clean else "is empty"
        raise Invalid(f"the question {found}", remedy="send at least one word", code="empty_question")
    return Question(text=clean, normalised=normalise(clean), language=detect(clean, tuple(languages)))


def normalise(text: str) -> str:
    """Fold what does not change a question: compatibility forms, case, spacing, closing punctuation."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.replace("\u2019", "'").split()).rstrip(" ?!.…")


def check_characters(text: str, what: str) -> None:
    """Raise Invalid where `text` holds a NUL or half of a surrogate pair, which neither UTF-8 nor the database can carry."""
    for position, character in enumerate(text):
        if character == "\0":
            name = "a NUL character"
        elif "\udc80" <= character <= "\udcff":  # how Python reads an argument in another encoding
            name = f"a byte that is no UTF-8 (0x{ord(character) - 0xDC00:02X})"
        elif "\ud800" <= character <= "\udfff":
            name = f"a lone surrogate (U+{ord(character):04X})"
        else:
            continue
        raise Invalid(
            f"{what} holds {name} at position {position}", remedy="remove it and send again", code="invalid_character"
        )
