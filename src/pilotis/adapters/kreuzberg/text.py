"""Bytes to clean text: encodings, invisible characters, front matter."""

from __future__ import annotations

import codecs
import re
import unicodedata

from pilotis.adapters.kreuzberg import charset
from pilotis.adapters.kreuzberg.media import HEAD_BYTES, looks_like_text, looks_like_utf16
from pilotis.adapters.kreuzberg.unreadable import Unreadable

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_WESTERN = frozenset({"iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii"})
"""Whoever declares these means Windows-1252, as all browsers know (WHATWG Encoding Standard)."""
_REPLACEABLE = 0.02
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Controls, soft hyphens, zero-width and direction marks, lone surrogates, tag characters: no reader sees them, a model does."""
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\u0085\v]")
_BLANK_LINES = re.compile(r"\n(?:[ \t\xa0]*\n){3,}")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})

_UNSEEN = re.compile(r"<(/?)(svg|script|style|noscript|template|iframe|object)\b[^<>]*>", re.IGNORECASE)
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_ESCAPED = re.compile(r"(?<!^)(?<!\\)\\([!\"#$%&'()*+,\-./:;<=>?@\[\]^_{}~])", re.MULTILINE)
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,2000}>")

_FRONT_MATTER = re.compile(r"\s*(---|\+\+\+)[ \t]*\n(.{0,20000}?)\n(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_KEY = re.compile(r"^[\w.-]+[ \t]*[:=]", re.MULTILINE)
_TITLE = re.compile(r"^[\"']?title[\"']?[ \t]*[:=][ \t]*(\S.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


def decode(content: bytes, declared: str | None = None) -> tuple[str, list[str]]:
    """Text of `content` and what had to be guessed: by byte order mark, UTF-8, `declared`, UTF-16, else its letters.

    Raises:
        Unreadable: the bytes are no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            text = content.decode(encoding, "replace").removeprefix("\ufeff")
            return text, _replaced(text, encoding)
    if looks_like_utf16(content[:HEAD_BYTES]):
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
        return content.decode(encoding, "replace"), [f"read as {encoding.upper()}, which nothing in the file says"]
    if not looks_like_text(content[:65536]):
        raise Unreadable("binary data, not text", "send the original document, with the extension of its format")
    try:
        return content.decode("utf-8"), []
    except UnicodeDecodeError:
        return _decode_legacy(content, declared)


def clean(text: str) -> str:
    """One line end, NFC, no invisible characters, at most two blank lines in a row."""
    text = _LINE_ENDS.sub("\n", text).replace("\f", "\n\n")
    text = _INVISIBLE.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_LIGATURES)
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n")


def split_front_matter(text: str) -> tuple[str, str | None]:
    """The text without YAML or TOML front matter, and the title this gave."""
    match = _FRONT_MATTER.match(text)
    if not match or not _KEY.search(match[2]):
        return text, None
    title = _TITLE.search(match[2])
    return text[match.end() :], _unquote(title[1]) if title else None


def unescape(text: str) -> str:
    """Markdown as it reads: a backslash goes where the character after it would mean nothing anyway, and in code it stays."""
    parts = _CODE.split(text)
    parts[::2] = [_ESCAPED.sub(r"\1", part) for part in parts[::2]]
    return "".join(parts)


def without_unseen_elements(html: str) -> str:
    """HTML without its scripts, styles, drawings and frames; one that is never closed is left to the parser."""
    kept: list[str] = []
    position, open_tag, opened_at = 0, "", 0
    for match in _UNSEEN.finditer(html):
        closing, tag = match[1], match[2].lower()
        if not open_tag and not closing and not match[0].endswith("/>"):
            open_tag, opened_at = tag, match.start()
        elif closing and tag == open_tag:
            kept.append(html[position:opened_at])
            position, open_tag = match.end(), ""
    return "".join((*kept, html[position:]))


def tag_share(text: str) -> float:
    """The share of characters that are HTML tags, code apart."""
    prose = "".join(_CODE.split(text)[::2])
    return sum(len(match[0]) for match in _TAG.finditer(prose)) / max(1, len(prose))


def _decode_legacy(content: bytes, declared: str | None) -> tuple[str, list[str]]:
    text = content.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if bad <= _REPLACEABLE * sum(character > "\x7f" for character in text):
        return text, [f"{bad} stretches were not UTF-8 and are shown as \ufffd"]
    if declared and declared.lower() in _WESTERN:
        declared = charset.WESTERN
    for encoding in (declared, charset.guess(content), charset.WESTERN, "iso-8859-1"):
        try:
            if encoding and codecs.lookup(charset.codec_of(encoding)).name != "utf-8":
                text = content.decode(charset.codec_of(encoding))
                return text, [] if encoding == declared else [f"not UTF-8: read as {encoding.title()}"]
        except (LookupError, ValueError):
            continue
    raise Unreadable("text in an unknown encoding", "save it as UTF-8")


def _replaced(text: str, encoding: str) -> list[str]:
    bad = text.count("\ufffd")
    return [f"{bad} stretches were not {encoding.upper()} and are shown as \ufffd"] if bad else []


def _unquote(value: str) -> str | None:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return value.strip() or None
