"""The parts of the reader that need neither the child nor kreuzberg."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pilotis.adapters.kreuzberg.containers import check_container
from pilotis.adapters.kreuzberg.mail import mail_text
from pilotis.adapters.kreuzberg.media import SHEET, SOURCE, WORD, media_type
from pilotis.adapters.kreuzberg.pages import page_starts
from pilotis.adapters.kreuzberg.pdf import pdf_pages
from pilotis.adapters.kreuzberg.tables import csv_text, json_lines_text, json_text
from pilotis.adapters.kreuzberg.text import clean, decode, split_front_matter, unescape
from pilotis.adapters.kreuzberg.unreadable import Unreadable

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.md", b"# Hi", "text/markdown"), ("A.HTML", b"<p>", "text/html"), ("notes.txt", b"%PDF-1.7 ...", "application/pdf"),
        ("a.md", b"<!DOCTYPE html><html>", "text/html"), ("noname", b" \n<html lang='fr'>", "text/html"), ("x.txt", b"hello", "text/plain"),
        ("x.txt", bytes(range(256)) * 4, "application/octet-stream"), ("x.txt", "été".encode("utf-16"), "text/plain"),
        ("x.docx", b"PK\x03\x04" + b"\0" * 26 + b"word/document.xml", WORD), ("unknown", b"PK\x03\x04" + b"\0" * 26 + b"xl/workbook.xml", SHEET),
        ("a.zip", b"PK\x03\x04" + b"\0" * 40, "application/zip"), ("x", b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/epub+zipPK", "application/epub+zip"),
        ("x.docx", OLE, WORD), ("x.xls", OLE, "application/vnd.ms-excel"), ("x.bin", OLE, "application/x-ole-storage"),
        ("photo.pdf", b"\x89PNG\r\n\x1a\n", "image/png"), ("main.py", b"import os", SOURCE), ("Makefile", b"all:\n", "text/plain"),
        ("mail", b"From: a@b.c\nTo: d@e.f\nSubject: x\n\nhi", "message/rfc822"), ("BMW.txt", b"BM is not a bitmap", "text/plain"),
        ("d/.\\x\ny.csv", b"a,b", "text/csv"), ("empty.pdf", b"", "application/pdf"), ("", b"", "application/octet-stream"),
        ("data.json", b"{}", "application/json"), ("x.tsv", b"a\tb", "text/tab-separated-values"), ("x.docx", b"plain words", "text/plain"),
    ],
)  # fmt: skip
def test_media_type(name: str, head: bytes, expected: str) -> None:
    assert media_type(name, head) == expected


@pytest.mark.parametrize(
    ("content", "text", "warned"),
    [
        ("été".encode(), "été", False), ("été".encode("utf-8-sig"), "été", False), ("été".encode("utf-16"), "été", False),
        ("été et hiver".encode("utf-16-le"), "été et hiver", True), ("l'été à 3 €".encode("cp1252"), "l'été à 3 €", True),
        ("été ".encode() * 100 + b"\xff", "été " * 100 + "\ufffd", True), (b"a\0b and more", "a\0b and more", False),
    ],
)  # fmt: skip
def test_decode(content: bytes, text: str, warned: bool) -> None:
    found, warnings = decode(content)
    assert found == text
    assert bool(warnings) == warned


def test_decode_refuses_binary() -> None:
    with pytest.raises(Unreadable, match="binary data"):
        decode(bytes(range(256)) * 10)


def test_a_declared_encoding_is_used() -> None:
    assert decode("Привет".encode("koi8-r"), "koi8-r") == ("Привет", [])


def test_clean_removes_what_no_reader_sees() -> None:
    dirty = "a\0b\r\nc\rd\u200be\ufefff\u202eg\U000e0041h\ud800i\xadj\ufb01"
    assert clean(dirty) == "ab\nc\ndefghijfi"
    assert clean("e\u0301te") == "éte"
    assert clean("a\n\n\n\n\n\nb") == "a\n\n\nb"


def test_front_matter() -> None:
    assert split_front_matter('---\ntitle: "My: Title"\ntags: [a]\n---\n# H\n') == ("# H\n", "My: Title")
    assert split_front_matter("+++\ntitle = 'T'\n+++\nx") == ("x", "T")
    assert split_front_matter("---\n\nNot front matter.\n\n---\nx")[1] is None
    assert split_front_matter("# H\n\n---\na: b\n---\n") == ("# H\n\n---\na: b\n---\n", None)


def test_unescape_leaves_code_and_line_starts() -> None:
    assert (
        unescape("a \\! b\\_c `x\\_y`\n\\# no heading\n```\n\\!\n```\n") == "a ! b_c `x\\_y`\n\\# no heading\n```\n\\!\n```\n"
    )


def test_csv_rows_repeat_their_columns() -> None:
    assert csv_text('name;amount\n"Al; ice";12\nBob;\n') == "- name: Al; ice; amount: 12\n- name: Bob"
    assert csv_text("1,2\n3,4\n") == "- 1; 2\n- 3; 4"
    assert csv_text("a\tb\n1\t2\n", tabs=True) == "- a: 1; b: 2"


def test_json_keeps_digits_and_structure() -> None:
    text, title = json_text('{"title": "T", "rate": 0.10, "items": [{"a": 1, "b": {"c": true}}, {"a": 2}], "n": {"x": "y"}}')
    assert title == "T"
    assert text.split("\n") == [
        "- title: T",
        "- rate: 0.10",
        "",
        "# items",
        "",
        "- a: 1; b.c: true",
        "- a: 2",
        "",
        "# n",
        "",
        "- x: y",
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"a":' * 200 + "1" + "}" * 200])
def test_json_that_cannot_be_read(text: str) -> None:
    with pytest.raises(Unreadable):
        json_text(text)


def test_json_lines_leave_out_what_is_broken() -> None:
    assert json_lines_text('{"a": 1}\nbroken\n{"a": 2}\n') == (
        "- a: 1\n- a: 2",
        ["1 lines are not valid JSON and were left out"],
    )


def test_mail() -> None:
    raw = (
        b"From: Al <a@x.org>\r\nTo: b@x.org\r\nSubject: =?utf-8?q?R=C3=A9union?=\r\nDate: Mon, 1 Jan 2024 10:00:00 +0100\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nBonjour.\r\n"
    )
    text, subject, warnings = mail_text(raw, lambda _: "")
    assert subject == "Réunion"
    assert text.split("\n")[:2] == ["# Réunion", ""]
    assert "- From: Al <a@x.org>" in text
    assert text.rstrip().endswith("Bonjour.")
    assert warnings == []


def test_pages_are_found_in_reflowed_text() -> None:
    pages = ["Header 1\nThe first page of\nthe report.", "", "Header 3\nThe third page is about wine."]
    text = "The first page of the report.\n\n## The third page is about wine."
    assert page_starts(text, pages) == (0, text.index("##"), text.index("##"))
    assert page_starts("nothing of the kind", pages) is None


def test_pdf_pages_mark_headings_and_drop_running_lines() -> None:
    body = "A line of text that is long enough\nto be wrapped here. Short.\nMore text that is as long as that one"
    pages = [f"ACME Annual Report\n{'Big Title' if n == 1 else 'x'}\n{body} {n}\nPage {n} of 3" for n in (1, 2, 3)]
    found = pdf_pages(pages, "# Big Title\n\nA line")
    assert found[0].strip().startswith("# Big Title\n\nA line of text that is long enough\nto be wrapped here. Short.")
    assert "ACME" not in "".join(found)
    assert "Page 2" not in "".join(found)


def bomb(path: Path, size: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * size)
    return path


def test_zip_bombs_are_refused_by_their_directory(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="zip bomb"):
        check_container(bomb(tmp_path / "b.docx", 64 << 20), WORD)
    check_container(bomb(tmp_path / "small.docx", 1 << 20), WORD)


def test_zip_bombs_that_lie_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "b.docx", 64 << 20)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="larger than it declares"):
        check_container(path, WORD)


def test_damaged_and_encrypted_containers(tmp_path: Path) -> None:
    path = tmp_path / "x.docx"
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(Unreadable, match="damaged"):
        check_container(path, WORD)
    path.write_bytes(OLE + b"\0" * 600)
    with pytest.raises(Unreadable, match="encrypted"):
        check_container(path, WORD)
