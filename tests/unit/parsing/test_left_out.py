"""What a file holds and its reader does not read is said."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from pilotis.adapters.kreuzberg import scans
from pilotis.adapters.kreuzberg.containers import check_container
from pilotis.adapters.kreuzberg.mail import mail_text
from pilotis.adapters.kreuzberg.media import WORD, media_type
from pilotis.adapters.kreuzberg.ocr import Ocr
from pilotis.adapters.kreuzberg.office import aside, left_out
from pilotis.adapters.kreuzberg.scans import Reading, complete, no_text
from pilotis.adapters.kreuzberg.tesseract import tesseract
from pilotis.adapters.kreuzberg.unreadable import Unreadable
from pilotis.errors import SetupError

SIZE = (595.0, 842.0)


def office(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return path


def test_images_and_embedded_files_of_an_office_file_are_counted(tmp_path: Path) -> None:
    members = {
        "word__media__a_dot_png": "",
        "word__media__b_dot_JPG": "",
        "docProps__thumbnail_dot_jpeg": "",
        "word__embeddings__o_dot_bin": "",
    }
    images, warnings = left_out(office(tmp_path / "a.docx", **members))
    assert images == 2
    assert warnings == ["1 embedded file was not read: ingest what matters as files"]
    (tmp_path / "b.docx").write_bytes(b"PK no zip")
    assert left_out(tmp_path / "b.docx") == (0, [])


def test_words_aside_of_the_body(tmp_path: Path) -> None:
    note = '<w:footnotes><w:p a="b"><w:r><w:t xml:space="preserve">One &amp; </w:t></w:r><w:r><w:t>two</w:t></w:r></w:p></w:footnotes>'
    path = office(
        tmp_path / "a.docx",
        word__footnotes_dot_xml=note,
        word__chunk_dot_html="<p>Three</p>",
        word__document_dot_xml="<w:t>no</w:t>",
    )
    assert aside(path, lambda content: content.decode().replace("<p>", "").replace("</p>", "")) == "One & two\n\nThree"


def test_attachments_are_named() -> None:
    parts = "".join(
        f"--b\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=file{n}.pdf\n\nx\n" for n in range(7)
    )
    message = f"From: a@b.c\nSubject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello.\n{parts}--b--\n"
    _, _, warnings = mail_text(message.encode(), lambda content: content.decode())
    assert warnings == [
        "7 attachments were not read (file0.pdf, file1.pdf, file2.pdf, file3.pdf, file4.pdf and 2 more): ingest what matters as files"
    ]


def test_a_date_that_is_none_takes_nothing_else_with_it() -> None:
    message = f"From: a@b.c\nSubject: s\nDate: Mon, 1 Jan 20{'9' * 40} 10:00:00 +0100\n\nHello.\n"
    text, subject, _ = mail_text(message.encode(), lambda content: content.decode())
    assert (subject, text.splitlines()[-1]) == ("s", "Hello.")


def test_blank_pages_are_listed_where_ocr_is_off(tmp_path: Path) -> None:
    reading = Reading(text="", pages=["Words."] + [""] * 12, joined=True, blank=dict.fromkeys(range(1, 13), SIZE), images=2)
    complete(reading, tmp_path / "a.pdf", None)
    assert reading.warnings == [
        "no text layer on 12 of 13 pages (2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more); OCR is off",
        "2 images were not read; OCR is off",
    ]


def test_what_ocr_read_and_what_it_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "page_texts", lambda path, sizes, ocr: iter([(1, "Seen."), (2, " - ")]))
    reading = Reading(text="", pages=["Words.", "", "", ""], joined=True, blank=dict.fromkeys((1, 2, 3), SIZE))
    complete(reading, tmp_path / "a.pdf", Ocr(languages="eng", ends=0))
    assert reading.pages == ["Words.", "Seen.", "", ""]
    assert reading.warnings == [
        "the text of 1 of 4 pages was read by OCR",
        "no text on 1 of 4 pages, not even for OCR",
        "1 of 4 pages were not read (4): OCR had no time left for them",
    ]


def test_why_there_is_nothing_to_index() -> None:
    later, earlier = Ocr(languages="eng", ends=time.monotonic() + 60), Ocr(languages="eng", ends=0)
    scan = Reading(text="", pages=["", ""], blank={0: SIZE, 1: SIZE})
    off = no_text("application/pdf", scan, None)
    assert off.reason == "the PDF has no text layer (2 pages, probably scanned); OCR is off"
    assert off.remedy.startswith("set reading.ocr = true in the contract")
    assert "OCR found none either" in no_text("application/pdf", scan, later).reason
    assert "did not find text in the time" in no_text("application/pdf", scan, earlier).reason
    assert "only images; OCR is off" in no_text(WORD, Reading(text="", images=1), None).reason
    assert no_text(WORD, Reading(text=""), later).reason == "there is no text in it"


def test_tesseract_needs_its_data(tmp_path: Path) -> None:
    (tmp_path / "eng.traineddata").write_bytes(b"")
    found = tesseract(("en",), str(tmp_path))
    assert (found.languages, found.folder) == ("eng", str(tmp_path))
    with pytest.raises(SetupError, match=r"missing for: fra, chi_sim") as caught:
        tesseract(("en", "fr", "zh"), str(tmp_path))
    assert "tesseract-ocr-fra tesseract-ocr-chi-sim" in caught.value.remedy
    with pytest.raises(SetupError, match=r"missing for: eng"):
        tesseract(("en",), str(tmp_path / "nowhere"))


def test_parts_that_overlap_are_a_bomb(tmp_path: Path) -> None:
    """A few bytes that each of a thousand entries claims for itself unpack to a thousand times as much."""
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(50):
            archive.writestr(f"word/{n}.xml", "x" * 5000)
        for member in archive.infolist():
            member.header_offset = 0
            member.compress_size = 4000
    with pytest.raises(Unreadable, match="lie over one another"):
        check_container(path, WORD)


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [("a.tar", b"a.txt" + bytes(252) + b"ustar", "application/x-tar"), ("a.txt", b"Before\0\0\0After NUL bytes", "text/plain")],
)
def test_more_media_types(name: str, head: bytes, expected: str) -> None:
    assert media_type(name, head) == expected


@pytest.mark.parametrize(
    ("media", "inside"),
    [
        ("application/vnd.ms-excel", b"\x09\x08\x10\x00\x00\x06" + bytes(14) + b"\x2f\x00\x36\x00"),
        ("application/vnd.ms-excel", b"\x09\x08\x10\x00\x00\x05" + bytes(14) + b"\x86\x00\x00\x00\x2f\x00\x36\x00"),
        ("application/msword", b"\xec\xa5" + bytes(8) + b"\x00\x01"),
        ("application/vnd.ms-powerpoint", "EncryptedSummary".encode("utf-16-le")),
        (WORD, b""),
    ],
)
def test_old_office_files_that_are_encrypted(tmp_path: Path, media: str, inside: bytes) -> None:
    (tmp_path / "a").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + inside)
    with pytest.raises(Unreadable, match="the document is encrypted"):
        check_container(tmp_path / "a", media)


def test_old_office_files_that_are_not(tmp_path: Path) -> None:
    words = b"\xec\xa5" + bytes(10)
    rows = b"\x09\x08\x10\x00\x00\x06" + bytes(14) + b"\xe1\x00\x02\x00"
    (tmp_path / "a").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + words + bytes(500) + rows)
    check_container(tmp_path / "a", "application/msword")
    check_container(tmp_path / "a", "application/vnd.ms-excel")
