"""From a parsed document to passages: cut at headings and sentences, with stable ids and exact offsets.

A section (what stands under one heading) is cut into blocks (paragraphs, lists, tables, fenced code), blocks that are too long
into sentences, rows or lines, and those into words; the pieces are then packed greedily. The text is walked once: time and memory
are linear in its length, whatever it holds.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from pilotis.rag.blocks import Block, blocks
from pilotis.rag.language import detect
from pilotis.rag.sentence import sentences
from pilotis.rag.tokens import approximate_tokens

Count = Callable[[str], int]
Span = tuple[int, int, int]
"""Start, end, tokens."""

MIN_LANGUAGE_CHARACTERS = 120
"""A shorter passage takes the language of its document: a code sample or a list of names has none of its own."""

_TOKEN_CHARACTERS = 32
"""No passage has more characters a token than this, whatever white space it holds."""

_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\n]{0,2000}\)")
_LETTER = re.compile(r"[^\W_]")
_HEADINGS_CHARACTERS = 240
_TITLE_CHARACTERS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A document as its text: Markdown-like, with the offsets at which its pages begin."""

    text: str
    title: str | None
    page_starts: tuple[int, ...] = ()
    """Offset of the first character of each page; empty where the format has no pages."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A passage cut from a document: `text == parsed.text[start:end]`."""

    id: str
    ordinal: int
    text: str
    start: int
    end: int
    page: int | None
    headings: tuple[str, ...]
    language: str


def cut(
    parsed: Parsed,
    *,
    document_id: str,
    size_tokens: int = 200,
    overlap_tokens: int = 0,
    languages: Sequence[str] = ("en", "fr"),
    count_tokens: Count | None = None,
) -> list[Cut]:
    """Cut a document into passages of about `size_tokens`.

    A passage never crosses a heading, and ends inside a word, a code fence or a table row only where that alone is larger than
    `size_tokens`. Its length is at most 1.25 times `size_tokens`, less where a long title and headings are embedded with it
    (down to half). Heading lines are in `headings`, not in the text, except those of sections that hold nothing else; lines
    without a letter or a digit (rules, table borders) may be dropped where they stand alone.

    An id is taken from the document, the passage's words and how often these occurred before: it survives edits elsewhere.
    `count_tokens` counts word pieces; by default they are estimated from the section's language (`rag.tokens`).
    """
    own = detect(parsed.text, languages)
    found: list[Cut] = []
    seen: Counter[str] = Counter()
    for section in _sections(parsed.text):
        count = _counter(parsed.text, section, languages, count_tokens)
        prefix = count(embedded_text(parsed.title, section.headings, ""))
        limit = max(size_tokens // 2, size_tokens * 5 // 4 - prefix, 1)
        for start, end in _pack(
            parsed.text, section.blocks, min(size_tokens, limit), limit=limit, overlap=overlap_tokens, count=count
        ):
            text = parsed.text[start:end]
            words = " ".join(text.split())
            language = detect(text, languages) if len(text) >= MIN_LANGUAGE_CHARACTERS else own
            found.append(
                Cut(
                    id=_id(document_id, words, seen[words]),
                    ordinal=len(found),
                    text=text,
                    start=start,
                    end=end,
                    page=bisect_right(parsed.page_starts, start) or None,
                    headings=section.headings,
                    language=language,
                )
            )
            seen[words] += 1
    return found


def embedded_text(title: str | None, headings: Sequence[str], text: str) -> str:
    """What is embedded and indexed for a passage: title and heading path on one line, then the passage.

    The title is left out where the first heading says the same. A path that is too long loses its middle. Of Markdown links only
    the words stay: addresses would fill the model's window and mean nothing to it.
    """
    path = [heading for heading in headings if heading]
    if title and not (path and _same(path[0], title)):
        path.insert(0, title[:_TITLE_CHARACTERS])
    while len(path) > 2 and sum(map(len, path)) > _HEADINGS_CHARACTERS:
        del path[1]
    text = _LINK.sub(r"\1", text)
    line = " > ".join(part[:_TITLE_CHARACTERS] for part in path)
    return f"{line}\n{text}" if line and text else line or text


@dataclass(frozen=True, slots=True)
class _Section:
    headings: tuple[str, ...]
    blocks: list[Block]


def _sections(text: str) -> Iterator[_Section]:
    """Sections with a text of their own; headings that have none, and no section below them, are gathered under their parent."""
    path: list[tuple[int, str]] = []
    heading: Block | None = None
    body: list[Block] = []
    lone: list[Block] = []
    for block in blocks(text):
        if not _LETTER.search(text, block.start, block.end):
            continue  # rules, borders, and headings made of them
        if block.kind != "heading":
            body.append(block)
            continue
        leaf = [heading] if heading is not None and not body and block.level <= heading.level else []
        lone += leaf
        if lone and (not leaf or block.level < lone[0].level):
            yield _lone_section(lone, path)
            lone = []
        if body:
            yield _Section(_titles(path), body)
            body = []
        path = [part for part in path if part[0] < block.level]
        path.append((block.level, block.title))
        heading = block
    if heading is not None and not body:
        lone.append(heading)
    if lone:
        yield _lone_section(lone, path)
    if body:
        yield _Section(_titles(path), body)


def _lone_section(headings: list[Block], path: list[tuple[int, str]]) -> _Section:
    level = headings[0].level
    return _Section(_titles([part for part in path if part[0] < level]), headings)


def _titles(path: list[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(title for _, title in path)


def _counter(text: str, section: _Section, languages: Sequence[str], given: Count | None) -> Count:
    """By the language of the section, not of the document, so that an edit elsewhere moves no boundary here."""
    start, end = section.blocks[0].start, section.blocks[-1].end
    own = detect(text[start:end], languages) if end - start >= MIN_LANGUAGE_CHARACTERS else ""
    counter = given or partial(approximate_tokens, language=own)

    def count(part: str) -> int:
        return counter(_LINK.sub(r"\1", part) if "](" in part else part)

    return count


def _pack(text: str, parts: list[Block], size: int, *, limit: int, overlap: int, count: Count) -> Iterator[tuple[int, int]]:
    """Fill passages with whole units up to `size` tokens; a short tail joins its neighbour where both fit in `limit`."""
    pieces: list[list[Span]] = [[]]
    filled = 0
    for unit in _units(text, parts, size, count):
        # What was left out between two units (a table's border) comes back with them: a passage is one slice of the text.
        gap = _span(text, pieces[-1][-1][1], unit[0], size, count)[2] if pieces[-1] and unit[0] > pieces[-1][-1][1] + 2 else 0
        if filled and filled + gap + unit[2] > size:
            kept = _tail(pieces[-1], min(overlap, size - unit[2]))
            pieces.append(kept)
            filled = sum(span[2] for span in kept)
        pieces[-1].append(unit)
        filled += gap + unit[2]
    if len(pieces) > 1 and not overlap:
        _settle_tail(pieces, size, limit)
    for piece in pieces:
        if piece:
            start, end = _strip(text, piece[0][0], piece[-1][1])
            if _LETTER.search(text, start, end):
                yield start, end


def _tail(piece: list[Span], tokens: int) -> list[Span]:
    """The last units of a passage that fit in `tokens`: the overlap."""
    kept: list[Span] = []
    for unit in reversed(piece):
        tokens -= unit[2]
        if tokens < 0:
            break
        kept.insert(0, unit)
    return kept


def _settle_tail(pieces: list[list[Span]], size: int, limit: int) -> None:
    last = sum(unit[2] for unit in pieces[-1])
    before = sum(unit[2] for unit in pieces[-2])
    if last >= size // 3:
        return
    if last + before <= limit:
        pieces[-2].extend(pieces.pop())
        return
    while len(pieces[-2]) > 1 and last + pieces[-2][-1][2] <= before - pieces[-2][-1][2]:
        unit = pieces[-2].pop()
        pieces[-1].insert(0, unit)
        last, before = last + unit[2], before - unit[2]


def _units(text: str, parts: list[Block], size: int, count: Count) -> Iterator[Span]:
    """Pieces of at most `size` tokens, as whole as they can be: a block, else its sentences, rows or lines, else words."""
    for block in parts:
        whole = _span(text, block.start, block.end, size, count)
        if whole[2] <= size:
            yield whole
            continue
        for start, end in _lines(text, block) if block.kind in {"table", "fence"} else _sentences(text, block):
            unit = _span(text, start, end, size, count)
            if unit[2] <= size:
                yield unit
            else:
                yield from _words(text, start, end, size, count)


def _sentences(text: str, block: Block) -> Iterator[tuple[int, int]]:
    body = text[block.start : block.end]
    return ((block.start + start, block.start + end) for start, end in sentences(body, ""))


def _lines(text: str, block: Block) -> Iterator[tuple[int, int]]:
    start = block.start
    while start < block.end:
        newline = text.find("\n", start, block.end)
        end = block.end if newline < 0 else newline
        if end > start:
            yield start, end
        start = end + 1


def _words(text: str, start: int, end: int, size: int, count: Count) -> Iterator[Span]:
    """Runs of words of at most `size` tokens. A longer word (a base64 blob, a language without spaces) is cut by characters:
    no character is more than one token.
    """
    begin, filled = start, 0
    for match in re.compile(rf"\S{{1,{size}}}\s{{0,{size}}}|\s{{1,{size}}}").finditer(text, start, end):
        tokens = max(count(match[0]), (match.end() - match.start()) // _TOKEN_CHARACTERS)
        if filled and filled + tokens > size:
            yield begin, match.start(), filled
            begin, filled = match.start(), 0
        filled += tokens
    yield begin, end, filled


def _span(text: str, start: int, end: int, size: int, count: Count) -> Span:
    """A stretch and its tokens; one that cannot fit is not counted, and much white space weighs as if it were text."""
    characters = end - start
    tokens = size + 1 if characters > _TOKEN_CHARACTERS * size else max(count(text[start:end]), characters // _TOKEN_CHARACTERS)
    return start, end, tokens


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _same(one: str, other: str) -> bool:
    return "".join(filter(str.isalnum, one.casefold())) == "".join(filter(str.isalnum, other.casefold()))


def _id(document_id: str, words: str, occurrence: int) -> str:
    return sha256(f"{document_id}\0{occurrence}\0{words}".encode()).hexdigest()[:32]
