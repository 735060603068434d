"""What a file shows and does not say: pages without a text layer and images, read by OCR where that is on, named where it is not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilotis.adapters.kreuzberg.ocr import Ocr, inner_texts, page_texts
from pilotis.adapters.kreuzberg.unreadable import Unreadable

SWITCH = "set reading.ocr = true in the contract"
_SHOWN = 10


@dataclass(slots=True, kw_only=True)
class Reading:
    """What a reader found. The text is not cleaned yet, so pages come as their own texts."""

    text: str
    title: str | None = None
    pages: list[str] = field(default_factory=list)
    joined: bool = False
    """The pages are the text, and `text` is empty."""
    blank: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """Index and size, in points, of pages of a PDF that have no text layer."""
    images: int = 0
    """How many images are inside an office file."""
    warnings: list[str] = field(default_factory=list)
    spent: bool = False
    """Something broke in this process on the way: it should read nothing more."""


def complete(reading: Reading, path: Path, ocr: Ocr | None) -> None:
    """Add what OCR reads, or the warning that it is off."""
    if reading.blank:
        _pages(reading, path, ocr)
    if reading.images:
        _images(reading, path, ocr)


def no_text(media_type: str, reading: Reading, ocr: Ocr | None) -> Unreadable:
    """Why there is nothing to index."""
    if ocr is not None and (reading.blank or reading.images or media_type.startswith("image/")):
        if time.monotonic() > ocr.ends:
            return Unreadable("OCR did not find text in the time there is", "raise limits.parse_timeout_s in the contract")
        return Unreadable("there is no text in it, and OCR found none either", "check that it is the right file")
    if media_type == "application/pdf":
        count = f"{len(reading.pages)} page{'s' if len(reading.pages) != 1 else ''}, " if reading.pages else ""
        return Unreadable(
            f"the PDF has no text layer ({count}probably scanned); OCR is off", f"{SWITCH}, or run OCR on it and send it again"
        )
    if reading.images:
        return Unreadable("there is no text in it, only images; OCR is off", f"{SWITCH}, or send a document with text")
    return Unreadable("there is no text in it", "check that it is the right file")


def _pages(reading: Reading, path: Path, ocr: Ocr | None) -> None:
    blank = [index + 1 for index in reading.blank]
    total = len(reading.pages)
    if ocr is None:
        reading.warnings.append(f"no text layer on {len(blank)} of {total} pages ({_listed(blank)}); OCR is off")
        return
    tried, found = 0, 0
    for index, text in page_texts(path, reading.blank, ocr):
        tried += 1
        if any(map(str.isalnum, text)):
            found += 1
            reading.pages[index] = text
    if found:
        reading.warnings.append(f"the text of {found} of {total} pages was read by OCR")
    if found < tried:
        reading.warnings.append(f"no text on {tried - found} of {total} pages, not even for OCR")
    if tried < len(blank):
        late = blank[tried:]
        reading.warnings.append(f"{len(late)} of {total} pages were not read ({_listed(late)}): OCR had no time left for them")


def _images(reading: Reading, path: Path, ocr: Ocr | None) -> None:
    # Slides are pages of their own: text at the end would be on the wrong one.
    texts, left = inner_texts(path, ocr) if ocr is not None and not reading.joined else ([], reading.images)
    if texts:
        reading.text = "\n\n".join([reading.text, *texts])
        reading.warnings.append(f"{_counted(len(texts), 'image')} read by OCR; the text is at the end")
    if left:
        why = "OCR is off" if ocr is None else "OCR does not read them here"
        reading.warnings.append(f"{_counted(left, 'image')} not read; {why}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}s were" if number > 1 else f"1 {what} was"


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more
