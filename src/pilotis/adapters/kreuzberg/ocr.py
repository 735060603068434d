"""Text out of images with Tesseract, whose engine is in kreuzberg and whose language data is the system's. Runs in the child only."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import kreuzberg

from pilotis.adapters.kreuzberg.text import unescape

READABLE = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".tif": "image/tiff", ".tiff": "image/tiff",
            ".bmp": "image/bmp", ".webp": "image/webp"}  # fmt: skip
"""Images by their suffix."""
_DPI = 200
_MOST_PIXELS = 25_000_000
_MOST_IMAGE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ocr:
    """What to look for, and until when."""

    languages: str
    """As Tesseract names them: `eng+fra`."""
    ends: float
    """On the monotonic clock; what is not begun then stays unread."""


def unready() -> str:
    """Load what is loaded late; what went wrong, or ""."""
    return "" if "tesseract" in kreuzberg.list_ocr_backends() else "OCR is on, and this build of kreuzberg has no Tesseract"


def image_text(content: bytes, media_type: str, ocr: Ocr) -> str:
    """Raises kreuzberg.KreuzbergError for what is no image."""
    config = kreuzberg.ExtractionConfig(
        output_format="markdown",
        use_cache=False,
        enable_quality_processing=False,
        ocr=kreuzberg.OcrConfig(
            backend="tesseract",
            language=ocr.languages,
            tesseract_config=kreuzberg.TesseractConfig(language=ocr.languages, use_cache=False, enable_table_detection=False),
        ),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    return unescape(kreuzberg.extract_bytes_sync(content, media_type, config).content)


def page_texts(path: Path, sizes: Mapping[int, Sequence[float]], ocr: Ocr) -> Iterator[tuple[int, str]]:
    """Index and text of the pages of a PDF whose sizes (points) are given, in order, for as long as there is time."""
    for index, (width, height) in sizes.items():
        if time.monotonic() > ocr.ends:
            return
        inches = max(width, 1) * max(height, 1) / 72**2
        dpi = int(min(_DPI, (_MOST_PIXELS / inches) ** 0.5))
        if dpi < 1:
            yield index, ""
            continue
        try:
            yield index, image_text(kreuzberg.render_pdf_page(str(path), index, dpi=dpi), "image/png", ocr)
        except (kreuzberg.KreuzbergError, RuntimeError):
            yield index, ""


def inner_texts(path: Path, ocr: Ocr) -> tuple[list[str], int]:
    """Texts of the images in an office file, for as long as there is time; and how many were left unread."""
    texts: list[str] = []
    left = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            media_type = READABLE.get(PurePosixPath(member.filename).suffix.lower())
            if media_type is None or "thumbnail" in member.filename.lower():
                continue
            if member.file_size > _MOST_IMAGE_BYTES or time.monotonic() > ocr.ends:
                left += 1
                continue
            try:
                texts.append(image_text(archive.read(member), media_type, ocr).strip())
            except (kreuzberg.KreuzbergError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
                left += 1
    return [text for text in texts if text], left
