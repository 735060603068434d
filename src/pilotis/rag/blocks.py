"""Markdown-like text as blocks: headings, fenced code, tables, and the paragraphs between them. Offsets only, one walk, linear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["heading", "fence", "table", "paragraph"]

Mark = Literal["blank", "fence", "code", "end", "atx", "row", "under", "text"]

_CONTINUE: dict[Kind, frozenset[Mark]] = {
    "fence": frozenset({"code", "end"}),
    "table": frozenset({"row"}),
    "paragraph": frozenset({"text", "under"}),
}
_KIND: dict[Mark, Kind] = {"fence": "fence", "row": "table", "text": "paragraph", "under": "paragraph"}
_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+\S")
_SETEXT = re.compile(r" {0,3}(?:(={2,})|-{3,})[ \t]*(?:\n|\Z)")
_FENCE = re.compile(r" {0,12}(?:[-*+] |\d{1,3}[.)] )?(`{3,}|~{3,})")
_LIST_ITEM = re.compile(r" {0,12}(?:[-*+] |\d{1,4}[.)] )")
_LONGEST_HEADING = 300
_MARKUP = (
    (re.compile(r"\s+\{\s*[#.:][^{}\n]{0,100}\}\s*$"), ""),
    (re.compile(r"[ \t]#+[ \t]*$"), ""),
    (re.compile(r"!?\[([^\[\]\n]{0,200})\]\([^()\n]{0,500}\)"), r"\1"),
    (re.compile(r"<[^<>\n]{1,200}>"), ""),
    (re.compile(r"[*`]+|(?<!\w)_{1,2}(?=\S)|(?<=\S)_{1,2}(?!\w)|¶"), ""),
    (re.compile(r"\\([\\`*_{}\[\]()#+\-.!<>|])"), r"\1"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """`text[start:end]`, without the line break that ends it. `level` and `title` are those of a heading."""

    start: int
    end: int
    kind: Kind
    level: int = 0
    title: str = ""


def blocks(text: str) -> Iterator[Block]:
    """The blocks of `text` in order. An unclosed fence runs to the end; a heading is one line (or two, underlined)."""
    begin, last, rows = -1, 0, 0
    kind: Kind = "paragraph"
    for start, stop, mark in _lines(text):
        if mark == "under" and begin >= 0 and rows == 1 and _may_be_heading(text, begin, stop):
            yield Block(begin, stop, "heading", 1 if "=" in text[start:stop] else 2, heading_text(text[begin:last]))
            begin = -1
            continue
        if begin >= 0 and mark not in _CONTINUE[kind]:
            yield Block(begin, last, kind)
            begin = -1
        if mark == "atx":
            line = text[start:stop].lstrip(" ")
            level = len(line) - len(line.lstrip("#"))
            yield Block(start, stop, "heading", level, heading_text(line[level:]))
        elif mark != "blank":
            if begin < 0:
                begin, rows, kind = start, 0, _KIND[mark]
            rows, last = rows + 1, stop
            if mark == "end":
                yield Block(begin, last, "fence")
                begin = -1
    if begin >= 0:
        yield Block(begin, last, kind)


def _lines(text: str) -> Iterator[tuple[int, int, Mark]]:
    """Start, end and role of each line, the line break left out."""
    fence = ""
    for match in _LINE.finditer(text):
        start, end = match.span()
        stop = end - 1 if end > start and text[end - 1] == "\n" else end
        if fence:
            closed = _closes(text, start, stop, fence)
            yield start, stop, "end" if closed else "code"
            fence = "" if closed else fence
        elif start == stop or text[start:stop].isspace():
            yield start, stop, "blank"
        elif (opening := _FENCE.match(text, start, stop)) and "`" not in text[opening.end() : stop]:
            fence = opening[1]
            yield start, stop, "fence"
        elif stop - start <= _LONGEST_HEADING and _ATX.match(text, start, stop):
            yield start, stop, "atx"
        elif text.startswith("|", start):
            yield start, stop, "row"
        else:
            yield start, stop, "under" if _SETEXT.match(text, start, end) else "text"


def _may_be_heading(text: str, begin: int, stop: int) -> bool:
    return stop - begin <= _LONGEST_HEADING and text[begin] not in "|`~" and not _LIST_ITEM.match(text, begin)


def heading_text(text: str) -> str:
    """A heading as it reads: without emphasis, link targets, anchors and tags."""
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _closes(text: str, start: int, stop: int, fence: str) -> bool:
    line = text[start:stop].strip() if stop - start <= _LONGEST_HEADING else ""
    return len(line) >= len(fence) and not line.strip(fence[0])
