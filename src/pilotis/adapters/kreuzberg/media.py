"""What a file is, from its first bytes and its name."""

from __future__ import annotations

import re
from pathlib import PurePath

BINARY = "application/octet-stream"
HEAD_BYTES = 8192
"""How many leading bytes `media_type` makes use of."""

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"
SOURCE = "text/x-source"
"""Program text and configuration: kept verbatim as one code block."""

_BY_EXTENSION = {
    "md": "text/markdown", "markdown": "text/markdown", "mdx": "text/markdown", "html": "text/html", "htm": "text/html",
    "xhtml": "text/html", "txt": "text/plain", "text": "text/plain", "csv": "text/csv", "tsv": "text/tab-separated-values",
    "json": "application/json", "jsonl": "application/x-ndjson", "ndjson": "application/x-ndjson", "eml": "message/rfc822",
    "msg": "application/vnd.ms-outlook", "pdf": "application/pdf", "docx": WORD, "docm": WORD, "dotx": WORD, "pptx": SLIDES,
    "pptm": SLIDES, "ppsx": SLIDES, "xlsx": SHEET, "xlsm": SHEET, "epub": EPUB, "xls": "application/vnd.ms-excel",
    "doc": "application/msword", "ppt": "application/vnd.ms-powerpoint", "rtf": "application/rtf", "xml": "application/xml",
    "odt": "application/vnd.oasis.opendocument.text", "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation", "ipynb": "application/x-ipynb+json", "rst": "text/x-rst",
    "org": "text/x-org", "tex": "application/x-latex", "fb2": "application/x-fictionbook+xml", "zip": "application/zip",
}  # fmt: skip
_SOURCE_NAMES = (
    "py pyi js mjs ts tsx jsx go rs java kt c h cc cpp hpp cs rb php pl lua r sh bash zsh fish ps1 bat sql yaml yml toml ini cfg conf "
    "properties env tf hcl nix css scss log diff patch lock gradle cmake dockerfile makefile proto graphql swift scala ex exs"
)
_SOURCE_EXTENSIONS = frozenset(_SOURCE_NAMES.split())
_ZIPPED = {WORD: b"word/", SLIDES: b"ppt/", SHEET: b"xl/"}
_OLE = {"application/vnd.ms-outlook", "application/vnd.ms-excel", "application/msword", "application/vnd.ms-powerpoint"}
_MAGIC = (
    (b"\x89PNG\r\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"), (b"BM", "image/bmp"), (b"{\\rtf", "application/rtf"), (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf", "application/x-7z-compressed"), (b"Rar!", "application/vnd.rar"), (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"), (b"\x28\xb5\x2f\xfd", "application/zstd"), (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-executable"), (b"SQLite format 3\0", "application/vnd.sqlite3"), (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"),
)  # fmt: skip
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html[\s>])", re.IGNORECASE | re.DOTALL
)
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r\f\x1b\x08")
_MAIL = re.compile(rb"(?:(?:[A-Za-z][A-Za-z0-9-]{1,40}:[^\n]{0,998}|[ \t][^\n]{0,998})\r?\n){3,}")
_MAIL_FIELD = re.compile(rb"^(?:from|received|return-path|message-id|mime-version):", re.IGNORECASE | re.MULTILINE)


def media_type(name: str, head: bytes) -> str:
    """The media type of a file called `name` that begins with `head` (its first 8 KiB are enough).

    Content wins over the name where it is unmistakable: a PDF called `notes.txt` is a PDF, and a `.txt` full of NUL bytes is
    `application/octet-stream`.
    """
    head = head[:HEAD_BYTES]
    suffix = PurePath(name.replace("\\", "/")).suffix.lower().lstrip(".")
    by_name = _BY_EXTENSION.get(suffix) or (SOURCE if suffix in _SOURCE_EXTENSIONS else None)
    if not head:
        return by_name or BINARY
    return _binary(head, by_name) or (_text(head, by_name) if looks_like_text(head) else BINARY)


def looks_like_text(head: bytes) -> bool:
    """False for bytes with more than a few control characters, unless they are UTF-16 or UTF-32."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    if looks_like_utf16(head):
        return True
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls <= max(4, len(head) // 100)


def looks_like_utf16(head: bytes) -> bool:
    """True where every other byte is mostly zero, as in Latin text of two bytes a character."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    return max(even, odd) > len(head) * 0.35 and min(even, odd) <= len(head) * 0.02


def _binary(head: bytes, by_name: str | None) -> str | None:
    if b"%PDF-" in head[:1024]:
        return "application/pdf"
    if head.startswith(b"PK\x03\x04"):
        return _zip(head, by_name)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return by_name if by_name in _OLE or by_name in _ZIPPED else "application/x-ole-storage"
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head.startswith(b"RIFF"):
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12], "video/x-msvideo")
    tar = "application/x-tar" if head[257:262] == b"ustar" else None
    found = next((name for magic, name in _MAGIC if head.startswith(magic)), tar)
    return None if found in {"image/bmp", "application/x-executable"} and looks_like_text(head) else found


def _text(head: bytes, by_name: str | None) -> str:
    if by_name and by_name not in {"text/plain", "text/markdown"} and not _names_a_container(by_name):
        return by_name
    if _HTML.match(head):
        return "text/html"
    if by_name is None and _MAIL.match(head) and _MAIL_FIELD.search(head):
        return "message/rfc822"
    return by_name if by_name == "text/markdown" else "text/plain"


def _zip(head: bytes, by_name: str | None) -> str:
    if head[30:38] == b"mimetype":
        declared = head[38:120].split(b"PK", 1)[0].decode("ascii", "ignore").strip()
        if declared in _BY_EXTENSION.values():
            return declared
    found = next((name for name, folder in _ZIPPED.items() if folder in head), None)
    if found:
        return found
    return by_name if by_name and _names_a_container(by_name) else "application/zip"


def _names_a_container(media: str | None) -> bool:
    return media is not None and (
        media in _ZIPPED or media in _OLE or media in {EPUB, "application/pdf", "application/zip"} or "opendocument" in media
    )
