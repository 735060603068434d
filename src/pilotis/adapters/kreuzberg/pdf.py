"""A PDF's pages as Markdown-like text.

kreuzberg's Markdown rendering of a PDF knows the headings, but joins wrapped lines without a space ("je pense" + "que" becomes
"penseque"), which no search finds again. Its plain pages are right, so the text is theirs and only the headings are the other's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pilotis.rag.blocks import heading_text

_HEADING = re.compile(r"^(#{1,6}) +(\S.{2,150})$", re.MULTILINE)
_LETTERS = re.compile(r"[^\W_]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_DIGITS = re.compile(r"\d+")
_CLOSED = re.compile(r"[.!?:…][\"'»”)\]]*$")
_HEADING_LINES = 4
_EDGE_LINES = 2
_FEWEST_PAGES = 3
_SHORT_LINE = 0.75


def pdf_pages(pages: Sequence[str], markdown: str) -> list[str]:
    """Each page's text with its headings marked, wrapped lines kept, running headers and footers left out."""
    headings: dict[str, int] = {}
    for match in _HEADING.finditer(markdown):
        headings.setdefault(_key(heading_text(match[2])), len(match[1]))
    headings.pop("", None)
    lines = [[line.strip() for line in page.splitlines() if line.strip()] for page in pages]
    running = _running(lines)
    return [_BLANK_LINES.sub("\n\n", "\n".join(_laid_out(_without(page, running), headings))) for page in lines]


def _laid_out(lines: Sequence[str], headings: Mapping[str, int]) -> Iterator[str]:
    """Lines with a blank one around headings and after what looks like the last line of a paragraph."""
    usual = sorted(map(len, lines))[len(lines) * 9 // 10] if lines else 0
    index = 0
    while index < len(lines):
        taken, level = _heading_at(lines, index, headings)
        if taken:
            yield f"\n{'#' * level} {' '.join(lines[index : index + taken])}\n"
            index += taken
            continue
        line = lines[index]
        # A line that begins with "#" is no heading of the author's.
        yield f"\\{line}" if line.startswith("#") else line
        if len(line) < _SHORT_LINE * usual and _CLOSED.search(line):
            yield ""
        index += 1


def _heading_at(lines: Sequence[str], index: int, headings: Mapping[str, int]) -> tuple[int, int]:
    """How many lines from `index` on make a heading, and its level; (0, 0) where they make none."""
    key, found = "", (0, 0)
    for taken, line in enumerate(lines[index : index + _HEADING_LINES], 1):
        key += _key(line)
        if key in headings:
            found = taken, headings[key]
    return found


def _running(pages: Sequence[Sequence[str]]) -> frozenset[str]:
    """Lines at the edge of most pages, whatever number they carry."""
    if len(pages) < _FEWEST_PAGES:
        return frozenset()
    counts = Counter(
        shape for page in pages for shape in {_shape(line) for line in (*page[:_EDGE_LINES], *page[-_EDGE_LINES:])}
    )
    return frozenset(shape for shape, count in counts.items() if count > max(len(pages) // 2, _FEWEST_PAGES - 1))


def _without(page: Sequence[str], running: frozenset[str]) -> Sequence[str]:
    last = len(page) - _EDGE_LINES
    return [line for index, line in enumerate(page) if _EDGE_LINES <= index < last or _shape(line) not in running]


def _shape(line: str) -> str:
    return _DIGITS.sub("0", line)


def _key(text: str) -> str:
    return "".join(_LETTERS.findall(text)).casefold()
