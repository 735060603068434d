"""How a stretch of a document reads in an answer: verbatim where it is prose, without its markup, and short."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

MOST_WORDS, MOST_LINES = 60, 4
"""Of one quotation; lines count in code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotation:
    """`text[start:end]` of a passage, and how it is shown."""

    start: int
    end: int
    shown: str


def quote(text: str, start: int, end: int, asked: Collection[str]) -> Quotation:
    """Quote `text[start:end]`; of what is overlong (a table, a block of code) the part where most of the words `asked` stand.

    Code is shown line by line between backticks, a table's row with the names of its columns. `asked` holds the first five
    letters of the question's words, folded.
    """
    if fence := _FENCE.match(text, start, end):
        return _code(text, fence.end(), end, asked)
    if (cells := _row(text, start, end)) is not None:
        return Quotation(start=start, end=end, shown=cells)
    start, end = _window(text, start, end, asked)
    return Quotation(start=start, end=end, shown=shown(text[start:end]))


def shown(source: str) -> str:
    """A stretch of Markdown as plain text on one line. Marks like `[3]` go too, save in code: they would pass for citations."""
    parts, last = [], 0
    for block in _BLOCK.finditer(source):
        parts += [_prose(source[last : block.start()]), _lines(block[2])]
        last = block.end()
    return " ".join(filter(None, (*parts, _prose(source[last:]))))


def is_table_head(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` names the columns of the table that follows."""
    return text.startswith("|", start) and _RULE.match(text, end) is not None


def _row(text: str, start: int, end: int) -> str | None:
    """A table's row as `column: cell; column: cell`; None where it is none, or the table's head is not in the passage."""
    if not text.startswith("|", start) or "\n" in text[start:end]:
        return None
    above = text[:start].split("\n")[:-1]
    at = len(above)
    while at and above[at - 1].startswith("|"):
        at -= 1
    if len(above) - at < 2 or not _RULE.match("\n" + above[at + 1]):
        return None
    names, cells = (_cells(line) for line in (above[at], text[start:end]))
    if len(names) != len(cells) or len(" ".join(cells).split()) > MOST_WORDS:
        return None
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=True) if cell) or None


def _cells(line: str) -> list[str]:
    return [shown(cell).replace("\\|", "|") for cell in _CELL_END.split(line.strip().strip("|"))]


def _code(text: str, start: int, end: int, asked: Collection[str]) -> Quotation:
    """Of a block's lines the few that stand together and hold most of the words."""
    closing = _CLOSING.search(text, start, end)
    lines = [match.span() for match in _LINE.finditer(text, start, closing.start() if closing else end)]
    lines = [(a, b) for a, b in lines if any(map(str.isalnum, text[a:b]))] or [(start, start)]
    windows = [lines[at : at + MOST_LINES] for at in range(max(1, len(lines) - MOST_LINES + 1))]
    chosen = max(windows, key=lambda window: len(_held(text[window[0][0] : window[-1][1]], asked)))
    words = [match.span() for match in _VISIBLE.finditer(text, chosen[0][0], chosen[-1][1])][:MOST_WORDS]
    first, last = (words[0][0], words[-1][1]) if words else (start, start)
    return Quotation(start=first, end=last, shown=_lines(text[first:last]))


def _held(text: str, asked: Collection[str]) -> set[str]:
    return {word[:5] for word in re.findall(r"\w{3,}", text.casefold())}.intersection(asked)


def _lines(code: str) -> str:
    """Lines of code, each between backticks; what boxes are drawn with is no code."""
    lines = (" ".join(_DRAWN.sub(" ", line).split()) for line in code.split("\n"))
    return " ".join(_prose(line) if "`" in line else f"`{line}`" for line in lines if any(map(str.isalnum, line)))


def _prose(text: str) -> str:
    for pattern, kept in _MARKUP:
        text = pattern.sub(kept, text)
    return " ".join(text.split())


def _window(text: str, start: int, end: int, asked: Collection[str]) -> tuple[int, int]:
    """The whole stretch, or of an overlong one (a table, a block of code) the clauses where most of the question's words stand."""
    words = [match.span() for match in _VISIBLE.finditer(text[start:end])]
    if len(words) <= MOST_WORDS:
        return start, end
    holds = [_held(text[start + a : start + b], asked) for a, b in words]
    begins = [0] + [n for n in range(1, len(words) - MOST_WORDS + 1) if _begins_clause(text, start + words[n][0])]
    at = max(begins, key=lambda n: (len(frozenset().union(*holds[n : n + MOST_WORDS])), -n))
    return start + words[at][0], start + words[min(at + MOST_WORDS, len(words)) - 1][1]


def _begins_clause(text: str, position: int) -> bool:
    gap = text[max(0, position - 100) : position]
    return "\n" in gap[len(gap.rstrip()) :] or gap.rstrip()[-1:] in {";", ":", ","}


_FENCE = re.compile(r"[ \t]*(?:[-*+] |\d{1,3}[.)] )?(`{3,}|~{3,})[^\n]*\n")
_CLOSING = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\Z", re.MULTILINE)
_BLOCK = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_LINE, _VISIBLE = re.compile(r"[^\n]+"), re.compile(r"\S+")
_DRAWN = re.compile(r"[\u2500-\u259f]+")
_RULE = re.compile(r"[ \t]*\n\|?[ \t]*:?-{2,}[-:| \t]*(?:\n|\Z)")
_CELL_END = re.compile(r"(?<!\\)\|")
_TAGS = (
    "a|abbr|b|blockquote|br|center|code|dd|details|div|dl|dt|em|figcaption|figure|font|h[1-6]|hr|i|img|kbd|li|mark|ol|p|pre|section|"
    "small|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|u|ul"
)
"""What is left of other things between angle brackets may be the point: `ingest <path>`."""
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(`[^`\n]*`)|\[\^?\d+(?:[,;\s]+\d+)*\]"), r"\1"),
    (re.compile(r"^[ \t]*(?:`{3,}|~{3,}).*$", re.MULTILINE), " "),
    (re.compile(r"^[ \t]*(?:/{3,}|:{3,}).*$", re.MULTILINE), " "),
    (re.compile(rf"<!--.*?-->|</?(?:{_TAGS})(?:\s[^<>]{{0,300}})?/?>", re.DOTALL | re.IGNORECASE), " "),
    (re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)|(?<!!)\[([^\]\n]+)\]\([^)\n]*\)"), r"\1\2"),
    (re.compile(r"^[ \t]*(?:[-*+•] |#{1,6} |> ?|\|)", re.MULTILINE), " "),
    (re.compile(r"\|?[ \t]*:?-{3,}:?[ \t]*\|[-:| \t]*|\|[ \t]*$", re.MULTILINE), " "),
    (re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])|(?<!\w)_(?=\S)([^_\n]+?)(?<=\S)_(?!\w)"), r"\1\2"),
    (re.compile(r"`([^`\n]+)`"), r"\1"),
)
