r"""Rich Text whose bytes are not Windows-1252, rewritten so that its reader finds every character as a Unicode escape.

The reader takes `\'83\'5d` for two Western letters whatever the font says. Which encoding a font has: `\fcharset` in the font table,
or `\ansicpg` where that says nothing (Rich Text Format Specification 1.9.1, "Character Set" and "Font Table").
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace

_CHARSETS = {
    77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "cp936", 136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258",
    177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
_TOKEN = re.compile(
    rb"\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?[0-9]{1,9})? ?|\\.|(?P<brace>[{}])|(?P<text>[^\\{}]+)|.",
    re.DOTALL,
)
_PLAIN = "cp1252"


def with_unicode_escapes(content: bytes) -> bytes:
    """The same document; unchanged where every font is Western."""
    return _Rewriting(content).done()


@dataclass(frozen=True, slots=True)
class _Group:
    font: int | None = None
    fallbacks: int = 1
    """How many characters after a Unicode escape are for readers that know none."""


class _Rewriting:
    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0
        self._out: list[bytes] = []
        self._fonts: dict[int, str] = {}
        self._default = _PLAIN
        self._group, self._outer = _Group(), list[_Group]()
        self._run: _Run | None = None

    def done(self) -> bytes:
        while match := _TOKEN.match(self._content, self._position):
            self._position = match.end()
            if match["hex"]:
                self._byte(match)
                continue
            text = match["text"]
            if self._run is not None and text is not None:
                text = self._run.take_rest(text)
                if not text.strip(b"\r\n"):  # line ends in the file mean nothing
                    continue
            self._end_run()
            self._out.append(match[0] if text is None else text)
            if match["brace"]:
                self._brace(match["brace"])
            elif match["word"]:
                self._word(match["word"], int(match["number"] or 0))
        self._end_run()
        return b"".join(self._out)

    def _byte(self, match: re.Match[bytes]) -> None:
        encoding = self._default if self._group.font is None else self._fonts.get(self._group.font, self._default)
        if self._run is None and encoding != _PLAIN:
            self._run = _Run(encoding, self._group.fallbacks)
        if self._run is None:
            self._out.append(match[0])
        else:
            self._run.feed(bytes.fromhex(match["hex"].decode()))

    def _end_run(self) -> None:
        if self._run is not None:
            self._out.append(self._run.escapes())
            self._run = None

    def _brace(self, brace: bytes) -> None:
        if brace == b"{":
            self._outer.append(self._group)
        else:
            self._group = self._outer.pop() if self._outer else _Group()

    def _word(self, word: bytes, number: int) -> None:
        match word:
            case b"f":
                self._group = replace(self._group, font=number)
            case b"plain":
                self._group = replace(self._group, font=None)
            case b"uc":
                self._group = replace(self._group, fallbacks=min(max(number, 0), 16))
            case b"ansicpg":
                self._default = _known(f"cp{number}")
            case b"fcharset" if self._group.font is not None:
                self._fonts[self._group.font] = _CHARSETS.get(number, self._default if number in {0, 1} else _PLAIN)
            case b"bin":
                self._out.append(self._content[self._position : self._position + max(0, number)])
                self._position += max(0, number)


class _Run:
    """Neighbouring escaped bytes, decoded together: one character may take two of them."""

    def __init__(self, encoding: str, fallbacks: int) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._text: list[str] = []
        self._fallbacks = b"?" * fallbacks

    def feed(self, content: bytes) -> None:
        self._text.append(self._decoder.decode(content))

    def take_rest(self, text: bytes) -> bytes:
        """The second byte of a character may stand there as a plain one; what remains of `text`."""
        if text[:1] in b"\r\n" or not self._decoder.getstate()[0]:
            return text
        self.feed(text[:1])
        return text[1:]

    def escapes(self) -> bytes:
        text = "".join(self._text) + self._decoder.decode(b"", final=True)
        units = memoryview(text.encode("utf-16-le", "replace")).cast("h")
        return b"".join(b"\\u%d%s" % (unit, self._fallbacks or b" ") for unit in units)


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return _PLAIN
