"""What Tesseract calls languages: ISO 639-2 codes, mostly."""

from __future__ import annotations

_NAMES = dict(
    pair.split(":")
    for pair in (
        "ar:ara az:aze be:bel bg:bul bn:ben ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng es:spa et:est eu:eus fa:fas fi:fin fr:fra "
        "ga:gle gl:glg he:heb hi:hin hr:hrv hu:hun hy:hye id:ind is:isl it:ita ja:jpn ka:kat kk:kaz ko:kor lb:ltz lt:lit lv:lav mk:mkd "
        "ms:msa mt:mlt nb:nor nl:nld nn:nor no:nor oc:oci pl:pol pt:por ro:ron ru:rus sk:slk sl:slv sq:sqi sr:srp sv:swe sw:swa ta:tam "
        "te:tel th:tha tr:tur uk:ukr ur:urd vi:vie zh:chi_sim"
    ).split()
)


def name(language: str) -> str:
    """Of an ISO 639-1 code; a code that is not known stands for itself."""
    return _NAMES.get(language, language)


def package(name: str) -> str:
    """Which package of Debian and Ubuntu holds the data of what Tesseract calls so."""
    return f"tesseract-ocr-{name.replace('_', '-')}"
