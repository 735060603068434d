"""The sources of an answer as a few lines below it, for readers whose program shows nothing but the text. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

_WORDS = {
    "de": ("Quellen:", "S."),
    "en": ("Sources:", "p."),
    "es": ("Fuentes:", "pág."),
    "fr": ("Sources :", "p."),
    "it": ("Fonti:", "p."),
    "nl": ("Bronnen:", "p."),
    "pt": ("Fontes:", "p."),
}
"""What stands above the lines, and before a page."""

_MOST_CHARACTERS = 200
_PLAIN = str.maketrans("[]<>`", "()‹›'")
_HEADINGS = "|".join(re.escape(heading) for heading in sorted({heading for heading, _ in _WORDS.values()}))
_BLOCK = re.compile(rf"\n\n(?:{_HEADINGS})(?:\n\[\d{{1,4}}\] [^\n]{{1,400}})+\s*\Z")
_MARK_OR_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|(?<![ \t])[ \t]*+\[\d{1,4}\](?!\()", re.DOTALL)
"""Spaces are looked at once, from their first: from each of them anew, a client's 240 KB of spaces would take a minute."""


class Cited(Protocol):
    """What a line shows of a source."""

    @property
    def n(self) -> int: ...
    @property
    def document(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def page(self) -> int | None: ...


def footnotes(cited: Sequence[Cited], language: str) -> str:
    """The lines, to be put right behind the text; empty without sources. A source cited twice has one line."""
    heading, page = _WORDS.get(language, _WORDS["en"])
    lines = dict.fromkeys(f"[{one.n}] {name(one, page=page)}" for one in cited)
    return "\n\n" + "\n".join((heading, *lines)) if lines else ""


def name(cited: Cited, *, page: str = "p.") -> str:
    """Title (or the document's name) and page on one line, which can neither be a link nor markup, whatever the document says."""
    at = f"{page} {cited.page}" if cited.page is not None else None
    parts = [part for part in ((cited.title or "").strip() or cited.document, at) if part]
    return " ".join(", ".join(parts).translate(_PLAIN).split())[:_MOST_CHARACTERS]


def without_sources(text: str) -> str:
    """An answer as it was before its footnotes, and without its marks: they number the passages of that time."""
    return _MARK_OR_CODE.sub(lambda found: found[0] if found[0].startswith("`") else "", _BLOCK.sub("", text)).strip()
