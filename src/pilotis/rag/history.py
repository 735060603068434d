"""A conversation becomes one question: what was asked last, made whole where it only makes sense after what was asked before."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pilotis.errors import Invalid
from pilotis.rag.footnotes import without_sources
from pilotis.rag.question import MAX_CHARACTERS

Turn = tuple[str, str]
"""Who speaks, `user` or `assistant`, and what they say."""

FEW_WORDS = 3
"""A question of so few words is taken for the rest of the one before: "Why?", "In production?", "Et en France ?"."""
OPENED_WORDS, POINTING_WORDS = 12, 6
"""Up to how many words a question is one where it begins with an opener, and where it points back."""
TURNS_BACK = 3
"""How many turns of the user are put before a follow-up, at most: one follow-up may follow another."""

_OPENER = re.compile(
    r"(?:and|or|but|so|then|also|why not|what about|how about|what if|et|ou|mais|donc|alors|puis|aussi|quid|pourquoi pas|même chose)\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(
    r"(?:(?:what|who|where|when)(?: is| are|['’]s)|define|explain|qui est|qui sont|où est|où sont|c['’]est quoi|qu['’]est[- ]ce)\b",
    re.IGNORECASE,
)
"""With which even three words ask something else: "What is Redis?"."""
_POINTER = frozenset("it its them they those these cela ça celui-ci celle-ci ceux-ci celles-ci ceux celles".split())


def follow(turns: Sequence[Turn]) -> tuple[str, tuple[Turn, ...]]:
    """The question of a conversation, and the turns before it, both oldest first.

    The last turn of the user is the question; what stands behind it is left out. Where that is a follow-up (see `is_follow_up`), the
    question is the user's turns before it, back to the first that is none, then itself, one a line: so that it can be searched, and
    kept in a cache, by itself. No more of them than a question may have characters: the oldest are left out first. What the assistant
    said comes without its footnotes and marks, which number the passages of that time.

    Raises Invalid where the user says nothing.
    """
    asked = [position for position, (role, _) in enumerate(turns) if role == "user"]
    if not asked:
        raise Invalid("no message has the role 'user'", remedy="send the question as the last message, with role 'user'")
    last = asked[-1]
    question = turns[last][1]
    lines, newest = [question], question
    for position in asked[-2 : -2 - TURNS_BACK : -1]:
        before = turns[position][1].strip()
        if not is_follow_up(newest) or sum(map(len, lines)) + len(before) + len(lines) > MAX_CHARACTERS:
            break
        lines.insert(0, before)
        newest = before
    history = ((role, without_sources(text) if role == "assistant" else text) for role, text in turns[:last])
    return "\n".join(lines), tuple((role, text) for role, text in history if text.strip())


def is_follow_up(text: str) -> bool:
    """Whether a question lacks what the one before said: of few words, short with an opener ("and", "et"), or pointing back ("it")."""
    words = [word for word in text.split() if any(character.isalnum() for character in word)]
    if len(words) <= OPENED_WORDS and _OPENER.match(text.strip()):
        return True
    if len(words) <= FEW_WORDS and not (len(words) == FEW_WORDS and _WHOLE.match(text.strip())):
        return True
    return len(words) <= POINTING_WORDS and any(word.strip("?!.,;:'’\"«»()").casefold() in _POINTER for word in words)
