"""What an Office or OpenDocument file holds beside its text: images, embedded files, parts that its reader passes by."""

from __future__ import annotations

import html
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".emf", ".wmf", ".webp"})
_ASIDE = re.compile(r"word/(?:footnotes|endnotes|comments|header\d*|footer\d*)\.xml")
_PARAGRAPH = re.compile(r"<w:p[ >].{0,200000}?</w:p>", re.DOTALL)
_TEXT = re.compile(r"<w:t(?: [^<>]{0,100})?>([^<]{0,100000})</w:t>")
_MOST_BYTES = 16 << 20


def left_out(path: Path) -> tuple[int, list[str]]:
    """How many images the container holds, and a warning of other files in it, which are not read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [PurePosixPath(name) for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return 0, []
    images = sum(member.suffix.lower() in _IMAGES and "thumbnail" not in member.stem.lower() for member in members)
    embedded = sum(member.parent.name == "embeddings" and bool(member.suffix) for member in members)
    what = f"{embedded} embedded files were" if embedded > 1 else "1 embedded file was"
    return images, [f"{what} not read: ingest what matters as files"] if embedded else []


def aside(path: Path, html_text: Callable[[bytes], str]) -> str:
    """The words of a Word document that has none in its body: notes, headers, and HTML that it includes."""
    parts: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > _MOST_BYTES:
                    continue
                if _ASIDE.fullmatch(member.filename):
                    content = archive.read(member).decode("utf-8", "replace")
                    parts += ["".join(_TEXT.findall(paragraph)) for paragraph in _PARAGRAPH.findall(content)]
                elif member.filename.lower().endswith((".html", ".htm", ".mht")):
                    parts.append(html_text(archive.read(member)))
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError):
        pass
    return "\n\n".join(html.unescape(part) for part in parts if part.strip())
