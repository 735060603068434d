"""Passages and a question become messages within `tok_in_max`. A version of the prompt is a file in `prompts/`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template
from typing import Protocol

from pilotis.errors import ContractError, Invalid
from pilotis.rag.extract import not_found
from pilotis.rag.question import Question
from pilotis.rag.sentence import sentences

LANGUAGES = {
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch", "pt": "Portuguese",
}  # fmt: skip
FRAMING_TOKENS = 8
"""What a chat format adds around two messages, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a generator is given."""

    version: str
    system: str
    user: str
    tokens: int
    """Counted or estimated tokens of both messages."""


class Source(Protocol):
    """What a prompt shows of a passage; `ports.Hit` is one."""

    @property
    def text(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def document(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def page(self) -> int | None: ...


def build(
    question: Question,
    passages: Sequence[Source],
    *,
    version: str,
    tok_in_max: int,
    count_tokens: Callable[[str], int],
    history: Sequence[tuple[str, str]] = (),
) -> tuple[Prompt, list[str]]:
    """Fill the templates of `version`; return the prompt and the text of each passage in it, the first being `[1]`.

    Passages go in ranking order, whole while they fit; the first that does not is cut at a sentence and is the last. `history` holds
    earlier turns (role, text), oldest first: the newest of them that fit into half of what passages could have. Counted piece by piece,
    which is never less than the whole, both messages together stay within `tok_in_max`.

    Raises:
        ContractError: there is no such version.
        Invalid: instructions and question leave no room for a passage (413 `question_too_long`).
    """
    sheet = _Sheet(_templates(version), question, passages, history)
    fixed = count_tokens(sheet.system) + count_tokens(sheet.user([], [])) + FRAMING_TOKENS
    turns, spoken = _recent(history, (tok_in_max - fixed) // 2, sheet, count_tokens)
    room = tok_in_max - fixed - spoken

    def cost(number: int, text: str) -> int:
        # The text by itself, so that whoever counts can remember it: the frame is another one for each question.
        return count_tokens(text) + count_tokens(sheet.passage(number, ""))

    kept, used = _fit(passages, room, cost)
    if not kept and passages:
        raise Invalid(
            f"instructions and question take {fixed + spoken:,} of the {tok_in_max:,} tokens a prompt may have: no passage fits",
            remedy="ask a shorter question, or raise perf.tok_in_max in the contract",
            status=413,
            code="question_too_long",
        )
    return Prompt(version=version, system=sheet.system, user=sheet.user(kept, turns), tokens=fixed + spoken + used), kept


def versions() -> tuple[str, ...]:
    """The prompt versions that exist."""
    return tuple(sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml")))


class _Sheet:
    """The templates of one prompt, with all but the passages' texts filled in."""

    def __init__(
        self,
        templates: dict[str, Template],
        question: Question,
        passages: Sequence[Source],
        history: Sequence[tuple[str, str]],
    ) -> None:
        self._templates, self._question, self._passages = templates, question, passages
        self._fence = _fence([question.text, *(text for _, text in history), *(passage.text for passage in passages)])
        language = LANGUAGES.get(question.language, "English")
        self.system = templates["system"].substitute(language=language, not_found=not_found(question.language)).strip()

    def user(self, texts: Sequence[str], turns: Sequence[tuple[str, str]]) -> str:
        shown = "".join(self.passage(number, text) for number, text in enumerate(texts, start=1))
        said = self.history("".join(self.turn(role, text) for role, text in turns)) if turns else ""
        return (
            self._templates["user"].substitute(fence=self._fence, passages=shown + said, question=self._question.text).strip()
        )

    def passage(self, number: int, text: str) -> str:
        source = _source(self._passages[number - 1]).replace(self._fence, "")
        return self._templates["passage"].substitute(fence=self._fence, number=number, source=source, text=text).lstrip()

    def history(self, turns: str) -> str:
        return "\n" + self._templates["history"].substitute(fence=self._fence, turns=turns).strip() + "\n\n"

    def turn(self, role: str, text: str) -> str:
        return self._templates["turn"].substitute(fence=self._fence, role=role, text=text).lstrip()


def _recent(
    history: Sequence[tuple[str, str]], room: int, sheet: _Sheet, count_tokens: Callable[[str], int]
) -> tuple[list[tuple[str, str]], int]:
    """The newest turns that fit, oldest first, and what they take."""
    if not history:
        return [], 0
    used = count_tokens(sheet.history(""))
    kept: list[tuple[str, str]] = []
    for role, text in reversed(history):
        needed = count_tokens(sheet.turn(role, text))
        if used + needed > room:
            break
        kept.append((role, text))
        used += needed
    return (kept[::-1], used) if kept else ([], 0)


def _fit(passages: Sequence[Source], room: int, cost: Callable[[int, str], int]) -> tuple[list[str], int]:
    """Whole passages while there is room, then as much of the next as fits; and what they take."""
    kept: list[str] = []
    used = 0
    for number, passage in enumerate(passages, start=1):
        needed = cost(number, passage.text)
        if used + needed <= room:
            kept.append(passage.text)
            used += needed
            continue
        cut = _cut(passage, partial(cost, number), room - used, inside=not kept)
        if cut:
            kept.append(cut)
            used += cost(number, cut)
        break
    return kept, used


def _cut(passage: Source, cost: Callable[[str], int], room: int, *, inside: bool) -> str:
    """The longest beginning that fits and ends with a sentence, or `inside` one with a word; empty where none does."""
    ends = [end for _, end in sentences(passage.text, passage.language)][:-1]
    if inside:  # one passage, even cut inside its first sentence, is better than none
        ends = sorted({*ends, *_word_ends(passage.text)})
    longest = _last(ends, lambda end: cost(passage.text[:end]) <= room)
    return "" if longest is None else passage.text[:longest]


def _last(ends: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The last end that fits, by bisection: a longer text never has fewer tokens."""
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(ends[middle]) else (low, middle)
    return ends[low - 1] if low else None


def _word_ends(text: str) -> list[int]:
    return [position for position in range(1, len(text)) if text[position].isspace() and not text[position - 1].isspace()]


def _fence(texts: Sequence[str]) -> str:
    """A word that none of the texts holds, so that no passage can close itself; the same texts give the same word."""
    digest = sha256("\0".join(texts).encode()).hexdigest()
    while any(digest[:8] in text.lower() for text in texts):
        digest = sha256(digest.encode()).hexdigest()
    return digest[:8]


def _source(passage: Source) -> str:
    page = f"page {passage.page}" if passage.page is not None else None
    parts = dict.fromkeys(part for part in (passage.title, passage.document, page) if part)
    return " ".join(", ".join(parts).translate(str.maketrans('"<>', "'()")).split())[:200]


@cache
def _templates(version: str) -> dict[str, Template]:
    if version not in versions():
        raise ContractError(f"there is no prompt version {version!r}", remedy=f"name one of: {', '.join(versions())}")
    text = _folder().joinpath(f"{version}.toml").read_text(encoding="utf-8")
    return {name: Template(template) for name, template in tomllib.loads(text).items()}


def _folder() -> Traversable:
    return files("pilotis.rag").joinpath("prompts")
