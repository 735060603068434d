"""Where Tesseract's data for languages is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotis.derive.tesseract import name as name_of
from pilotis.derive.tesseract import package
from pilotis.errors import SetupError

_PLACES = (
    *("/usr/share/tesseract-ocr/5/tessdata", "/usr/share/tesseract-ocr/4.00/tessdata", "/usr/share/tesseract-ocr/4/tessdata"),
    *("/usr/share/tessdata", "/usr/local/share/tessdata"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tesseract:
    """Which languages it reads, in its own names (`eng+fra`), and the folder of their data."""

    languages: str
    folder: str


def tesseract(languages: Sequence[str], told: str | None = None) -> Tesseract:
    """For ISO 639-1 codes; `told` is the folder, which is else looked for. Raises SetupError where data is missing."""
    names = [name_of(language) for language in languages]
    folder = next((Path(place) for place in ([told] if told else _PLACES) if Path(place).is_dir()), None)
    missing = [name for name in names if folder is None or not (folder / f"{name}.traineddata").is_file()]
    if folder is None or missing:
        packages = " ".join(map(package, missing))
        raise SetupError(
            f"OCR is on, and Tesseract's data is missing for: {', '.join(missing)}",
            remedy=f"install it (Debian: apt-get install {packages}), set TESSDATA_PREFIX to its folder, or set reading.ocr = false",
        )
    return Tesseract(languages="+".join(names), folder=str(folder.resolve()))
