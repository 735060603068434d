"""One file to text: which reader for which media type, and what kreuzberg's errors mean to a person. Runs in the child only."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import kreuzberg

from pilotis.adapters.kreuzberg import media
from pilotis.adapters.kreuzberg.containers import check_container
from pilotis.adapters.kreuzberg.mail import attachments_left_out, mail_text
from pilotis.adapters.kreuzberg.ocr import READABLE, Ocr, image_text
from pilotis.adapters.kreuzberg.office import aside, left_out
from pilotis.adapters.kreuzberg.pages import page_starts
from pilotis.adapters.kreuzberg.pdf import pdf_pages
from pilotis.adapters.kreuzberg.rtf import with_unicode_escapes
from pilotis.adapters.kreuzberg.scans import SWITCH, Reading, complete, no_text
from pilotis.adapters.kreuzberg.tables import MAX_CHARACTERS, csv_text, json_lines_text, json_text, rows_text
from pilotis.adapters.kreuzberg.text import clean, decode, split_front_matter, tag_share, unescape, without_unseen_elements
from pilotis.adapters.kreuzberg.unreadable import Unreadable
from pilotis.rag.blocks import heading_text

_HEAD = re.compile(r"<head[\s>].{0,2000000}?</head\s*>", re.IGNORECASE | re.DOTALL)
_HTML_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,2000}?)</title", re.IGNORECASE | re.DOTALL)
_HTML_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{2,40})", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{1,5000}>|<!--.{0,100000}?-->", re.DOTALL)
_PERMALINK = re.compile(r"\[(?:¶|#|🔗|§|)\]\([^()\s]{0,300}(?: \"[^\"\n]{0,200}\")?\)")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.{0,300})$", re.MULTILINE)
_IMAGE = re.compile(r"!\[[^\[\]\n]{0,500}\]\([^()\n]{0,2000}\)")
_INNER_IMAGE = re.compile(r"!\[([^\[\]\n]{0,500})\]\((?!https?:)[^()\n]{0,2000}\)")
_JUNK_TITLE = re.compile(
    r"\W*(?:untitled|unnamed|anonymous|sans titre|document|binder|microsoft word\b.*|powerpoint presentation|pr[ée]sentation powerpoint)?"
    r"[\W\d]*|.*\.(?:pdf|docx?|odt|rtf|pptx?|indd|qxd)",
    re.IGNORECASE,
)
_RTF_CHARACTER = re.compile(r"\\'([0-9a-fA-F]{2})")
_AS_IT_STANDS = "its markup could not be read: taken as plain text"
_WARNINGS, _WARNING_CHARACTERS = 20, 400
_MOSTLY_TAGS = 0.2
"""A Markdown file with a greater share of HTML tags is read as HTML."""
_MARKER_FORMAT = f"\n\n{token_hex(8)}page{{page_num}}\n\n"
"""Slides have no texts of their own in kreuzberg's result, only marks between them: one that no file can hold."""
_MARKER = re.compile(_MARKER_FORMAT.strip().format(page_num=r"\d+"))
_DAMAGE = (
    (re.compile(r"deflate|CRC|checksum|inflate", re.IGNORECASE), "its compressed content is broken"),
    (re.compile(r"file not found|not found in|missing", re.IGNORECASE), "a part of it is missing"),
    (re.compile(r"recursion|nested|depth", re.IGNORECASE), "it is nested too deeply"),
    (re.compile(r"invalid zip|open ZIP", re.IGNORECASE), "its zip directory cannot be read"),
    (re.compile(r"valid UTF-?8"), "its text is not UTF-8"),
    (re.compile(r"Cannot detect file format"), "it is no spreadsheet"),
    (re.compile(r"JSON"), "it is not valid JSON"),
    (re.compile(r"OPF"), "its list of chapters is not well-formed"),
    (re.compile(r"XML|tag not closed|unexpected end tag", re.IGNORECASE), "its XML is not well-formed"),
    (re.compile(r"unexpected end|end of file|EOF|truncated|failed to fill", re.IGNORECASE), "it ends too early"),
)
_PLACE = re.compile(r"['\"]?/[\w./-]{2,}['\"]?")
_A4 = (595.0, 842.0)
_PACKED = frozenset({"application/x-tar", "application/x-bzip2", "application/x-xz", "application/zstd"})
_ENCRYPTED = re.compile(r"password|encrypt", re.IGNORECASE)


def read(path: Path, media_type: str, ocr: Ocr | None = None) -> dict[str, Any]:
    """The fields of `rag.passage.Parsed`. Without `ocr` images say nothing.

    Raises:
        Unreadable: with the reason and what to do about it.
    """
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)", "send the file again")
    if ocr is not None and media_type in READABLE.values():
        reading = _image(path, media_type, ocr)
    else:
        reader = _READERS.get(media_type) or (_opened if media_type in _KREUZBERG else None)
        if reader is None:
            raise _unsupported(media_type)
        reading = reader(path, media_type)
        complete(reading, path, ocr)
    pages = [clean(page) for page in reading.pages]
    text, starts = _join(pages) if reading.joined else (clean(reading.text), ())
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(
            f"it holds more than {MAX_CHARACTERS / 1e6:.0f} million characters of text", "split it into several files"
        )
    if not any(character.isalnum() for character in _IMAGE.sub(" ", text)):
        raise no_text(media_type, reading, ocr)
    if pages and not starts:
        starts = page_starts(text, pages) or ()
        if not starts:
            text, starts = _join(pages)
    return {
        "text": text,
        "title": _title(reading.title, text if media_type not in _UNTITLED else ""),
        "page_starts": starts,
        "spent": reading.spent,
        "warnings": [clean(warning)[:_WARNING_CHARACTERS] for warning in reading.warnings[:_WARNINGS]],
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
    title = result.metadata.get("title")
    # Inside the file the address of an image leads nowhere.
    text = _INNER_IMAGE.sub(r"\1", unescape(result.content)) if media_type in _ZIPS else unescape(result.content)
    images, warnings = left_out(path) if media_type in _ZIPS else (0, [])
    return Reading(text=text, title=title, pages=pages, images=max(images, "![" in result.content), warnings=warnings)


def _word(path: Path, media_type: str) -> Reading:
    reading = _opened(path, media_type)
    if not any(map(str.isalnum, reading.text)):
        reading.text, reading.pages = aside(path, _html_text), []
    return reading


def _outlook(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    warnings = attachments_left_out([str(name) for name in result.metadata.get("attachments") or []])
    return Reading(text=unescape(result.content), title=result.metadata.get("subject"), warnings=warnings)


def _markup(path: Path, media_type: str) -> Reading:
    """reStructuredText, Org and LaTeX, which can be read as they stand where their reader fails: it does on RST tables with accents."""
    text, warnings = decode(path.read_bytes())
    try:
        result = kreuzberg.extract_bytes_sync(text.encode("utf-8", "replace"), media_type, _config(media_type))
    except kreuzberg.KreuzbergError:
        return Reading(text=text, warnings=[*warnings, _AS_IT_STANDS])
    except BaseException as panic:  # Rust's panics are no Exception, and have no class that could be imported
        if type(panic).__name__ != "PanicException":
            raise
        return Reading(text=text, warnings=[*warnings, _AS_IT_STANDS], spent=True)
    return Reading(text=unescape(result.content), title=result.metadata.get("title"), warnings=warnings)


def _rtf(path: Path, media_type: str) -> Reading:
    try:
        result = kreuzberg.extract_bytes_sync(with_unicode_escapes(path.read_bytes()), media_type, _config(media_type))
    except kreuzberg.KreuzbergError as error:
        raise _translated(error, media_type) from error
    return Reading(text=unescape(result.content), title=result.metadata.get("title"))


def _pdf(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    pages = [str(page["content"]) for page in result.pages or []]
    reading = Reading(text="", title=result.metadata.get("title"), pages=pdf_pages(pages, result.content), joined=True)
    sizes = [page.get("dimensions") or _A4 for page in (result.metadata.get("pages") or {}).get("pages") or []]
    reading.blank = {
        index: sizes[index] if index < len(sizes) else _A4
        for index, page in enumerate(pages)
        if not any(map(str.isalnum, page))
    }
    if b"/EmbeddedFile" in path.read_bytes():
        reading.warnings.append("its attachments were not read: ingest what matters as files")
    return reading


def _image(path: Path, media_type: str, ocr: Ocr) -> Reading:
    try:
        return Reading(text=image_text(path.read_bytes(), media_type, ocr), warnings=["read by OCR"])
    except kreuzberg.KreuzbergError as error:
        raise Unreadable("the file is damaged: it is no image that can be shown", "send an intact copy") from error


def _slides(path: Path, media_type: str) -> Reading:
    result = _extract(path, media_type)
    before, *pages = _MARKER.split(result.content)
    if not pages:
        pages = [""]
    pages[0] = before + pages[0]
    shown = [_INNER_IMAGE.sub(r"\1", unescape(page)) for page in pages]
    images, warnings = left_out(path)
    return Reading(text="", title=result.metadata.get("title"), pages=shown, joined=True, images=images, warnings=warnings)


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
    found = _PERMALINK.sub("", unescape(_without_pseudo_front_matter(result.content)))
    # Nested deeper than it looks, it gives nothing.
    return found if any(map(str.isalnum, found)) else html.unescape(_TAG.sub(" ", text)).strip()


def _config(media_type: str) -> kreuzberg.ExtractionConfig:
    """No OCR, no cache, no models, one thread: nothing that reaches beyond this file. Files inside files stay closed."""
    config = kreuzberg.ExtractionConfig(  # type: ignore[call-arg,unused-ignore]  # its stubs do not know disable_ocr
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
    config.max_archive_depth = 0
    return config


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
    damage = next((words for sign, words in _DAMAGE if sign.search(message)), _PLACE.sub("", detail))
    return Unreadable(f"the file is damaged: {damage}", "send an intact copy")


def _unsupported(media_type: str) -> Unreadable:
    if media_type.startswith("image/"):
        return Unreadable(f"an image ({media_type}): OCR is off", f"{SWITCH}, or send a document with text")
    if media_type in {"application/zip", "application/gzip", "application/x-7z-compressed", "application/vnd.rar", *_PACKED}:
        return Unreadable(f"an archive ({media_type})", "unpack it and send the files")
    if media_type == media.BINARY:
        return Unreadable("binary data, not text", "send the original document, with the extension of its format")
    if media_type == "application/x-ole-storage":
        return Unreadable("an old Office container of an unknown kind", "send it with its extension (.doc, .xls, .ppt, .msg)")
    return Unreadable(f"the format {media_type} is not supported", "convert it to PDF, Word, HTML or text")


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
    media.WORD: _word,
    "text/x-rst": _markup,
    "text/x-org": _markup,
    "application/x-latex": _markup,
    "application/rtf": _rtf,
    "application/vnd.ms-outlook": _outlook,
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
_ZIPS = {media.WORD, media.EPUB, "application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.presentation"}
_KREUZBERG = _PAGED | {
    media.EPUB, "application/msword", "application/rtf", "application/xml", "application/vnd.ms-outlook", "application/x-ipynb+json",
    "application/vnd.oasis.opendocument.text", "application/x-fictionbook+xml",
}  # fmt: skip
