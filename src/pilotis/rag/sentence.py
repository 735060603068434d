"""Where sentences begin and end in Markdown-like text, English or French, as offsets into it."""

from __future__ import annotations

import re

_CLOSERS = "\"'»”’)\\]*_"
_END = re.compile(rf"(?<![.!?…])[.!?…]++(?:[{_CLOSERS}]|[ \u00a0\u202f]»)*+(?=\s)|[。！？]++")
"""A closing mark, the quotes and brackets that belong to it, then white space; or a CJK full stop."""

_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_OWN_LINE = re.compile(r"\s{0,12}(?:[-*+•–] |\d{1,4}[.)] |[a-zA-Z][.)] |#{1,6} |\||>|:? {0,3}:::|!!! |\?\?\? |<!--)")
"""A line that begins something of its own: a list item, a heading, a table row, a quotation, an admonition."""
_FENCE = re.compile(r" {0,12}(?:[-*+] |\d{1,3}[.)] )?(`{3,}|~{3,})")

_ENGLISH = (
    "mr mrs ms dr prof st sr jr vs e.g i.e cf al fig figs eq eqs sec ch vol no nos pp p approx est dept inc ltd co corp gen col capt lt "
    "sgt rev hon jan feb mar apr jun jul aug sep sept oct nov dec ca resp ed eds viz min max incl u.s u.k a.k.a"
)
_FRENCH = (
    "m mm mme mmes mlle mlles me dr pr st ste p.ex p ex art al cf fig éd ed chap vol n no nos pp env av apr j.-c janv févr avr juil sept "
    "oct nov déc tél réf resp boul bd min max hab c.-à-d c.à.d i.e e.g ibid op cit"
)
_ABBREVIATIONS = {"en": frozenset(_ENGLISH.split()), "fr": frozenset(_FRENCH.split())}
_ALL = _ABBREVIATIONS["en"] | _ABBREVIATIONS["fr"]
_LAST_WORD = re.compile(r"[\w.\-°]+$")
_LONGEST_ABBREVIATION = 8


def sentences(text: str, language: str) -> list[tuple[int, int]]:
    """Spans (start, end) of the sentences of `text`, in order, without overlap and without outer white space.

    Every character that is not white space lies in one of them. Line breaks inside a paragraph do not end a sentence; blank lines,
    list items, headings and table rows do. A fenced code block is one span.
    """
    found: list[tuple[int, int]] = []
    for start, end, prose in _blocks(text):
        if prose:
            _split(text, start, end, _ABBREVIATIONS.get(language, _ALL), found)
        else:
            _add(text, start, end, found)
    return found


def _blocks(text: str) -> list[tuple[int, int, bool]]:
    """Stretches no sentence crosses: (start, end, whether it is prose)."""
    blocks: list[tuple[int, int, bool]] = []
    begin, fence = 0, ""
    for match in _LINE.finditer(text):
        start, end = match.span()
        opening = _FENCE.match(text, start, end)
        if fence:
            if opening and opening[1].startswith(fence) and not text[opening.end() : end].strip():
                blocks.append((begin, end, False))
                begin, fence = end, ""
        elif opening:
            blocks.append((begin, start, True))
            begin, fence = start, opening[1]
        elif text[start:end].isspace() or _OWN_LINE.match(text, start, end):
            if begin < start:
                blocks.append((begin, start, True))
                begin = start
            if text.startswith("#", start):
                blocks.append((start, end, False))
                begin = end
    blocks.append((begin, len(text), not fence))
    return blocks


def _split(text: str, start: int, end: int, abbreviations: frozenset[str], found: list[tuple[int, int]]) -> None:
    begin = start
    for match in _END.finditer(text, start, end):
        if _ends_sentence(text, begin, match, end, abbreviations):
            _add(text, begin, match.end(), found)
            begin = match.end()
    _add(text, begin, end, found)


def _ends_sentence(text: str, begin: int, match: re.Match[str], end: int, abbreviations: frozenset[str]) -> bool:
    following = text[match.end() : min(end, match.end() + 8)].lstrip()
    if match[0] != ".":
        # An ellipsis, or a mark inside quotes or brackets, may stand amid a sentence: the next word tells.
        midway = match[0][0] == "…" or match[0].startswith("..") or match[0][-1] not in ".!?…。！？"
        return not (midway and following[:1].islower())
    before = _LAST_WORD.search(text, max(begin, match.start() - 2 * _LONGEST_ABBREVIATION), match.start())
    word = before[0].lower() if before else ""
    if following[:1].islower() or following[:1] in {",", ";", ":"}:
        return False
    if word in abbreviations or (len(word) == 1 and word.isalpha()):
        return False
    return not (word.isdigit() and not text[begin : match.start() - len(word)].strip())


def _add(text: str, start: int, end: int, found: list[tuple[int, int]]) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        found.append((start, end))
