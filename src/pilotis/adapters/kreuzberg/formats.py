"""One file to text: which reader for which media type, and what kreuzberg's errors mean to a person. Runs in the child only."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import kreuzberg

from pilotis.adapters.kreuzberg import media
from pilotis.adapters.kreuzberg.containers import check_container
from pilotis.adapters.kreuzberg.mail import mail_text
from pilotis.adapters.kreuzberg.pages import page_starts
from pilotis.adapters.kreuzberg.pdf import pdf_pages
from pilotis.adapters.kreuzberg.tables import MAX_CHARACTERS, csv_text, json_lines_text, json_text, rows_text
from pilotis.adapters.kreuzberg.text import clean, decode, split_front_matter, tag_share, unescape, without_unseen_elements
from pilotis.adapters.kreuzberg.unreadable import Unreadable
from pilotis.rag.blocks import heading_text

_HEAD = re.compile(r"<head[\s>].{0,2000000}?</head\s*>", re.IGNORECASE | re.DOTALL)
_HTML_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,2000}?)</title", re.IGNORECASE | re.DOTALL)
_HTML_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{2,40})", re.IGNORECASE)
_PERMALINK = re.compile(r"\[(?:¶|#|🔗|§|)\]\([^()\s]{0,300}(?: \"[^\"\n]{0,200}\")?\)")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.{0,300})$", re.MULTILINE)
_JUNK_TITLE = re.compile(
    r"\W*(?:untitled|unnamed|anonymous|sans titre|document|binder|microsoft word\b.*|powerpoint presentation|pr[ée]sentation powerpoint)?"
    r"[\W\d]*|.*\.(?:pdf|docx?|odt|rtf|pptx?|indd|qxd)",
    re.IGNORECASE,
)
_RTF_CHARACTER = re.compile(r"\\'([0-9a-fA-F]{2})")
_MOSTLY_TAGS = 0.2
"""A Markdown file with a greater share of HTML tags is read as HTML."""
_MARKER_FORMAT = f"\n\n{token_hex(8)}page{{page_num}}\n\n"
"""Slides have no texts of their own in kreuzberg's result, only marks between them: one that no file can hold."""
_MARKER = re.compile(_MARKER_FORMAT.strip().format(page_num=r"\d+"))
_ENCRYPTED = re.compile(r"password|encrypt", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Reading:
    """What a reader found. The text is not cleaned yet, so pages come as their own texts."""

    text: str
    title: str | None = None
    pages: Sequence[str] = ()
    joined: bool = False
    """The pages are the text, and `text` is empty."""
    warnings: list[str] = field(default_factory=list)


def read(path: Path, media_type: str) -> dict[str, Any]:
    """The fields of `rag.passage.Parsed`.

    Raises:
        Unreadable: with the reason and what to do about it.
    """
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)", "send the file again")
    reader = _READERS.get(media_type) or (_opened if media_type in _KREUZBERG else None)
    if reader is None:
        raise _unsupported(media_type)
    reading = reader(path, media_type)
    pages = [clean(page) for page in reading.pages]
    text, starts = _join(pages) if reading.joined else (clean(reading.text), ())
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(
            f"it holds more than {MAX_CHARACTERS / 1e6:.0f} million characters of text", "split it into several files"
        )
    if not any(character.isalnum() for character in text):
        raise _no_text(media_type, len(reading.pages))
    if pages and not starts:
        starts = page_starts(text, pages) or ()
        if not starts:
            text, starts = _join(pages)
    return {
        "text": text,
        "title": _title(reading.title, text if media_type not in _UNTITLED else ""),
        "page_starts": starts,
        "warnings": reading.warnings,
    }


def unready(pdf: bytes) -> str:
    """Load what is loaded late by reading `pdf`; what went wrong, or ""."""
    try:
        kreuzberg.extract_bytes_sync(pdf, "application/pdf", _config("application/pdf"))
    except kreuzberg.KreuzbergError as error:
        return " ".join(str(error).split())[:500]
    return ""


def _plain(path: Path, media_type: str) -> Reading:
    text, warnings = decode(path.read_bytes())
    if media_type == media.SOURCE:
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`{3,}", text)), default=0))
        return Reading(text=f"{fence}\n{text.rstrip()}\n{fence}", warnings=warnings)
    return Reading(text=text, warnings=warnings)


def _markdown(path: Path, _: str) -> Reading:
    text, warnings = decode(path.read_bytes())
    text, title = split_front_matter(text.replace("\r\n", "\n"))
    if tag_share(text) > _MOSTLY_TAGS:
        text = _html_text(text.encode("utf-8", "replace"))
    return Reading(text=text, title=title, warnings=warnings)


def _html(path: Path, _: str) -> Reading:
    content = path.read_bytes()
    charset = _HTML_CHARSET.search(content[:4096])
    text, warnings = decode(content, charset[1].decode("ascii") if charset else None)
    text, front = split_front_matter(text.replace("\r\n", "\n"))
    title = _HTML_TITLE.search(text[:500_000])
    found = _html_text(text.encode("utf-8", "replace"))
    return Reading(text=found, title=front or (html.unescape(title[1]) if title else None), warnings=warnings)


def _csv(path: Path, media_type: str) -> Reading:
    text, warnings = decode(path.read_bytes())
    return Reading(text=csv_text(text, tabs=media_type == "text/tab-separated-values"), warnings=warnings)


def _json(path: Path, _: str) -> Reading:
    text, warnings = decode(path.read_bytes())
    found, title = json_text(text)
    return Reading(text=found, title=title, warnings=warnings)


def _json_lines(path: Path, _: str) -> Reading:
    text, warnings = decode(path.read_bytes())
    found, more = json_lines_text(text)
    return Reading(text=found, warnings=[*warnings, *more])


def _mail(path: Path, _: str) -> Reading:
    text, subject, warnings = mail_text(path.read_bytes(), _html_text)
    return Reading(text=text, title=subject, warnings=warnings)


def _sheet(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    names = result.metadata.get("sheet_names") or []
    parts: list[str] = []
    sheet = None
    for table in result.tables:
        if table.page_number != sheet:
            sheet = table.page_number
            parts.append(f"## {names[sheet - 1]}" if 0 < sheet <= len(names) else f"## {sheet}")
        parts.append(rows_text(table.cells))
    return Reading(text="\n\n".join(parts) if result.tables else result.content, title=result.metadata.get("title"))


def _opened(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    pages = [str(page["content"]) for page in result.pages or []]
    warnings = [str(getattr(warning, "message", warning)) for warning in result.processing_warnings or []]
    title = result.metadata.get("title") or (result.metadata.get("subject") if "outlook" in media_type else None)
    return Reading(text=unescape(result.content), title=title, pages=pages, warnings=warnings)


def _pdf(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    pages = [str(page["content"]) for page in result.pages or []]
    reading = Reading(text="", title=result.metadata.get("title"), pages=pdf_pages(pages, result.content), joined=True)
    _warn_of_blank_pages(pages, reading.warnings)
    return reading


def _slides(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    before, *pages = _MARKER.split(result.content)
    if not pages:
        return Reading(text=unescape(result.content), title=result.metadata.get("title"))
    pages[0] = before + pages[0]
    return Reading(text="", title=result.metadata.get("title"), pages=[unescape(page) for page in pages], joined=True)


def _extract(path: Path, media_type: str) -> kreuzberg.ExtractionResult:
    check_container(path, media_type)
    try:
        return kreuzberg.extract_file_sync(path, media_type, _config(media_type))
    except kreuzberg.KreuzbergError as error:
        raise _translated(error, media_type) from error


def _html_text(content: bytes) -> str:
    text = without_unseen_elements(_HEAD.sub("<head></head>", content.decode("utf-8", "replace"), count=1))
    try:
        result = kreuzberg.extract_bytes_sync(text.encode(), "text/html", _config("text/html"))
    except kreuzberg.KreuzbergError as error:
        raise _translated(error, "text/html") from error
    return _PERMALINK.sub("", unescape(_without_pseudo_front_matter(result.content)))


def _config(media_type: str) -> kreuzberg.ExtractionConfig:
    """No OCR, no cache, no models, one thread: nothing that reaches beyond this file."""
    return kreuzberg.ExtractionConfig(  # type: ignore[call-arg,unused-ignore]  # its stubs do not know disable_ocr
        output_format="markdown",
        disable_ocr=True,
        use_cache=False,
        enable_quality_processing=False,
        pages=kreuzberg.PageConfig(
            extract_pages=media_type in _PAGED, insert_page_markers=media_type == media.SLIDES, marker_format=_MARKER_FORMAT
        ),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
        html_options={
            "preprocessing": {"enabled": True, "preset": "aggressive", "remove_navigation": True, "remove_forms": True}
        },
    )


def _translated(error: kreuzberg.KreuzbergError, media_type: str) -> Unreadable:
    message = " ".join(str(error).split())
    detail = re.sub(r"^(?:\w+Error: )+", "", message)[:200]
    if _ENCRYPTED.search(message):
        what = "PDF" if media_type == "application/pdf" else "document"
        return Unreadable(f"the {what} is encrypted", "remove the password and send it again")
    if "No page boundaries" in message:
        return Unreadable("the PDF has no pages", "send an intact copy")
    if "PdfiumLibraryInternalError" in message:
        return Unreadable("the file is damaged: it is not a valid PDF", "send an intact copy")
    if "nsupported" in message and "ormat" in message:
        return _unsupported(media_type)
    return Unreadable(f"the file is damaged: {detail}", "send an intact copy")


def _unsupported(media_type: str) -> Unreadable:
    if media_type.startswith("image/"):
        return Unreadable(f"an image ({media_type}): OCR is off", "send a document with text")
    if media_type in {"application/zip", "application/gzip", "application/x-7z-compressed", "application/vnd.rar"}:
        return Unreadable(f"an archive ({media_type})", "unpack it and send the files")
    if media_type == media.BINARY:
        return Unreadable("binary data, not text", "send the original document, with the extension of its format")
    if media_type == "application/x-ole-storage":
        return Unreadable("an old Office container of an unknown kind", "send it with its extension (.doc, .xls, .ppt, .msg)")
    return Unreadable(f"the format {media_type} is not supported", "convert it to PDF, Word, HTML or text")


def _no_text(media_type: str, pages: int) -> Unreadable:
    if media_type == "application/pdf":
        count = f"{pages} page{'s' if pages != 1 else ''}, " if pages else ""
        return Unreadable(f"the PDF has no text layer ({count}probably scanned); OCR is off", "run OCR on it and send it again")
    return Unreadable("there is no text in it", "check that it is the right file")


def _warn_of_blank_pages(pages: Sequence[str], warnings: list[str]) -> None:
    blank = [str(number) for number, page in enumerate(pages, 1) if not any(map(str.isalnum, page))]
    if blank:
        shown = ", ".join(blank[:10]) + (f" and {len(blank) - 10} more" if len(blank) > 10 else "")
        warnings.append(f"no text layer on {len(blank)} of {len(pages)} pages ({shown}); OCR is off")


def _join(pages: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    starts: list[int] = []
    position = 0
    for page in pages:
        starts.append(position)
        position += len(page) + 2
    return "\n\n".join(pages), tuple(starts)


def _without_pseudo_front_matter(text: str) -> str:
    """Drop the metadata that kreuzberg renders as "---", "meta-name: value" lines and one last key as a heading."""
    match = re.match(r"---\n(?:(?:meta-|[a-z-]{1,30}:)[^\n]*\n|\n)*(?:## [a-z-]{1,30}: [^\n]*\n)?", text)
    return text[match.end() :] if match else text


def _title(declared: object, text: str) -> str | None:
    title = declared if isinstance(declared, str) else ""
    title = _RTF_CHARACTER.sub(lambda match: bytes.fromhex(match[1]).decode("cp1252", "replace"), title)
    title = " ".join(clean(title).split())
    if not _JUNK_TITLE.fullmatch(title):
        return title[:300]
    heading = _HEADING.search(text, 0, 20_000)
    return heading_text(heading[1])[:300] or None if heading else None


_SHEETS = {media.SHEET, "application/vnd.ms-excel", "application/vnd.oasis.opendocument.spreadsheet"}
_READERS: dict[str, Callable[[Path, str], Reading]] = {
    "text/plain": _plain,
    media.SOURCE: _plain,
    "text/markdown": _markdown,
    "text/html": _html,
    "text/csv": _csv,
    "text/tab-separated-values": _csv,
    "application/json": _json,
    "application/x-ndjson": _json_lines,
    "message/rfc822": _mail,
    "application/pdf": _pdf,
    media.SLIDES: _slides,
    **dict.fromkeys(_SHEETS, _sheet),
}
_UNTITLED = {"application/json", "application/x-ndjson", "text/csv", media.SOURCE} | _SHEETS
"""Formats whose headings are ours, not the author's."""
_PAGED = {
    "application/pdf",
    media.WORD,
    media.SLIDES,
    "application/vnd.ms-powerpoint",
    "application/vnd.oasis.opendocument.presentation",
}
_KREUZBERG = _PAGED | {
    media.EPUB, "application/msword", "application/rtf", "application/xml", "application/vnd.ms-outlook", "application/x-ipynb+json",
    "application/vnd.oasis.opendocument.text", "text/x-rst", "text/x-org", "application/x-latex", "application/x-fictionbook+xml",
}  # fmt: skip
