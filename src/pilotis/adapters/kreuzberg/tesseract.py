"""What Tesseract calls languages (ISO 639-2 codes, mostly), and where its data for them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotis.errors import SetupError

_NAMES = dict(
    pair.split(":")
    for pair in (
        "ar:ara az:aze be:bel bg:bul bn:ben ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng es:spa et:est eu:eus fa:fas fi:fin fr:fra "
        "ga:gle gl:glg he:heb hi:hin hr:hrv hu:hun hy:hye id:ind is:isl it:ita ja:jpn ka:kat kk:kaz ko:kor lb:ltz lt:lit lv:lav mk:mkd "
        "ms:msa mt:mlt nb:nor nl:nld nn:nor no:nor oc:oci pl:pol pt:por ro:ron ru:rus sk:slk sl:slv sq:sqi sr:srp sv:swe sw:swa ta:tam "
        "te:tel th:tha tr:tur uk:ukr ur:urd vi:vie zh:chi_sim"
    ).split()
)


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
    names = [_NAMES.get(language, language) for language in languages]
    folder = next((Path(place) for place in ([told] if told else _PLACES) if Path(place).is_dir()), None)
    missing = [name for name in names if folder is None or not (folder / f"{name}.traineddata").is_file()]
    if folder is None or missing:
        packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
        raise SetupError(
            f"OCR is on, and Tesseract's data is missing for: {', '.join(missing)}",
            remedy=f"install it (Debian: apt-get install {packages}), set TESSDATA_PREFIX to its folder, or set reading.ocr = false",
        )
    return Tesseract(languages="+".join(names), folder=str(folder.resolve()))
