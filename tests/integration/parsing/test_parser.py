"""The real child on real files of every format, and on files that mean harm."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docx
import openpyxl  # type: ignore[import-untyped,unused-ignore]
import pptx
import psutil  # type: ignore[import-untyped,unused-ignore]
import pypdf
import pytest

from pilotis.adapters.kreuzberg import KreuzbergParser, media_type
from pilotis.errors import Permanent, SetupError, Transient
from pilotis.rag.passage import Parsed, cut

HTML = (
    "<!doctype html><html lang='fr'><head><meta charset='utf-8'><meta name='generator' content='Sphinx'><title>Le &amp; titre</title>"
    "<style>p{color:red}</style></head><body><nav><a href='/'>Accueil du site</a></nav><script>var secret = 1;</script>"
    "<h1>Titre<a href='#t'>¶</a></h1><p>Un paragraphe d'été.</p><pre><code>def f():\n    return 1\n</code></pre>"
    "<table><tr><th>Nom</th><th>Montant</th></tr><tr><td>A</td><td>12</td></tr></table><footer>Tous droits</footer></body></html>"
)
OPF = (
    '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i"><metadata '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Book</dc:title><dc:identifier id="i">x</dc:identifier></metadata><manifest>'
    '<item id="c1" href="c1.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c1"/></spine></package>'
)
CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


@pytest.fixture
async def parser() -> AsyncIterator[KreuzbergParser]:
    parser = KreuzbergParser()
    yield parser
    await parser.close()


async def read(parser: KreuzbergParser, path: Path, content: bytes | str | None = None) -> Parsed:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return await parser.parse(path, name=path.name, media_type="application/octet-stream")


async def refusal(parser: KreuzbergParser, path: Path, content: bytes | str | None = None) -> str:
    with pytest.raises(Permanent) as caught:
        await read(parser, path, content)
    assert caught.value.remedy
    return caught.value.message


def pdf(pages: list[str]) -> bytes:
    bodies = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    kids = []
    for page in pages:
        stream = (
            b"BT /F1 12 Tf 72 720 Td 14 TL "
            + b" ".join(b"(%s) Tj T*" % line.encode("cp1252") for line in page.split("\n"))
            + b" ET"
        )
        bodies.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        content = len(bodies)
        bodies.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>" % content
        )
        kids.append(b"%d 0 R" % len(bodies))
    bodies[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), b" ".join(kids))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(bodies) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1) + table + end


def encrypted(password: str) -> bytes:
    writer = pypdf.PdfWriter()
    writer.append(pypdf.PdfReader(io.BytesIO(pdf(["Secret words here."]))))
    writer.encrypt(password, "owner")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


async def test_markdown_stays_as_it_is(parser: KreuzbergParser, tmp_path: Path) -> None:
    body = "# Head\n\nSome *text*.\n\n```python\n# not a title\ndef f():\n    return  1\n```\n\n| a | b |\n|---|---|"
    parsed = await read(parser, tmp_path / "a.md", f"---\ntitle: My Title\n---\n{body}\n")
    assert (parsed.text, parsed.title) == (body, "My Title")
    assert (await read(parser, tmp_path / "b.md", body)).title == "Head"


async def test_html_without_its_furniture(parser: KreuzbergParser, tmp_path: Path) -> None:
    parsed = await read(parser, tmp_path / "a.html", HTML)
    assert parsed.title == "Le & titre"
    assert parsed.text.startswith("# Titre\n\nUn paragraphe d'été.")
    assert "    return 1" in parsed.text
    for gone in ("---\n", "meta-", "Sphinx", "Accueil", "secret", "color", "droits", "¶"):
        assert gone not in parsed.text.replace("| --- |", ""), gone


async def test_html_in_a_declared_encoding(parser: KreuzbergParser, tmp_path: Path) -> None:
    page = "<html><head><meta charset=iso-8859-1></head><body><p>Un été</p></body></html>"
    assert (await read(parser, tmp_path / "a.html", page.encode("latin-1"))).text == "Un été"


async def test_text_is_never_garbled_silently(parser: KreuzbergParser, tmp_path: Path) -> None:
    assert (await read(parser, tmp_path / "a.txt", "été\r\nhiver")).text == "été\nhiver"
    assert (await read(parser, tmp_path / "b.txt", "été".encode("utf-16"))).text == "été"
    old = await read(parser, tmp_path / "c.txt", "l'été coûte 3 €".encode("cp1252"))
    assert old.text == "l'été coûte 3 €"
    assert "Windows-1252" in old.warnings[0]
    assert (await read(parser, tmp_path / "d.txt", b"a\0b" + b"c" * 500)).text.startswith("abc")


async def test_pdf_knows_its_pages(parser: KreuzbergParser, tmp_path: Path) -> None:
    parsed = await read(parser, tmp_path / "a.pdf", pdf(["First page\nof the text.", "Deuxième page : été.", "Third one."]))
    assert [parsed.text[start:].split()[0] for start in parsed.page_starts] == ["First", "Deuxième", "Third"]
    partial = await read(parser, tmp_path / "b.pdf", pdf(["Words.", ""]))
    assert "no text layer on 1 of 2 pages (2)" in partial.warnings[0]


async def test_word_knows_its_pages(parser: KreuzbergParser, tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "Doc title"
    document.add_heading("Heading one", 1)
    document.add_paragraph("Paragraph one about apples and their price.")
    document.add_page_break()  # type: ignore[no-untyped-call,unused-ignore]
    document.add_heading("Second part", 2)
    document.add_paragraph("Paragraph two about pears and their weight.")
    table = document.add_table(2, 2)
    for (row, column), text in {(0, 0): "Name", (0, 1): "Amount", (1, 0): "Alice", (1, 1): "42"}.items():
        table.cell(row, column).text = text
    document.save(str(tmp_path / "a.docx"))
    parsed = await read(parser, tmp_path / "a.docx")
    assert parsed.title == "Doc title"
    assert parsed.text.startswith("# Heading one\n\nParagraph one")
    assert [parsed.text[start:].split("\n")[0] for start in parsed.page_starts] == ["# Heading one", "## Second part"]
    assert "| Alice | 42 |" in parsed.text


async def test_slides_are_pages(parser: KreuzbergParser, tmp_path: Path) -> None:
    deck = pptx.Presentation()
    for number in (1, 2, 3):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = f"Slide number {number}"
        slide.placeholders[1].text = f"Point {number}"
    deck.save(str(tmp_path / "a.pptx"))
    parsed = await read(parser, tmp_path / "a.pptx")
    assert parsed.title == "Slide number 1"
    pages = {passage.headings[-1]: passage.page for passage in cut(parsed, document_id="d")}
    assert pages == {"Slide number 1": 1, "Slide number 2": 2, "Slide number 3": 3}


async def test_sheets_csv_and_json_become_lines_that_stand_alone(parser: KreuzbergParser, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Budget"
    for row in (["Name", "Amount"], ["Al", 1.5], ["Bo", 2]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert (await read(parser, tmp_path / "a.xlsx")).text == "## Budget\n\n- Name: Al; Amount: 1.5\n- Name: Bo; Amount: 2"
    assert (await read(parser, tmp_path / "a.csv", "Name;Amount\nAl;1,5\n")).text == "- Name: Al; Amount: 1,5"
    assert (await read(parser, tmp_path / "a.json", '[{"n": "Al", "v": 0.10}]')).text == "- n: Al; v: 0.10"


async def test_mail_and_epub(parser: KreuzbergParser, tmp_path: Path) -> None:
    mail = await read(
        parser, tmp_path / "a.eml", "From: a@x.org\nSubject: Hello\nDate: Mon, 1 Jan 2024 10:00:00 +0100\n\nBody text.\n"
    )
    assert mail.title == "Hello"
    assert "- From: a@x.org" in mail.text
    assert mail.text.endswith("Body text.")
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("c.opf", OPF)
        archive.writestr(
            "c1.xhtml", '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Chapter 1</h1><p>Text.</p></body></html>'
        )
    book = await read(parser, tmp_path / "a.epub")
    assert (book.title, book.text) == ("Book", "# Chapter 1\n\nText.")


async def test_a_table_with_accents_in_restructured_text(parser: KreuzbergParser, tmp_path: Path) -> None:
    """Its reader cuts columns in the middle of a character, and panics."""
    table = "=====  =====\nNom    Prix\n=====  =====\nabcd\u00e9  cent\n=====  =====\n"
    parsed = await read(parser, tmp_path / "a.rst", table)
    assert "abcd\u00e9  cent" in parsed.text
    assert parsed.warnings == ("its markup could not be read: taken as plain text",)
    whole = await read(parser, tmp_path / "b.rst", "\u00c9t\u00e9\n===\n\n.. note:: Un mot.\n".encode("cp1252"))
    assert whole.text.startswith("# \u00c9t\u00e9")


async def test_source_is_one_code_block(parser: KreuzbergParser, tmp_path: Path) -> None:
    parsed = await read(parser, tmp_path / "a.py", "# comment\nx = '```'\n")
    assert parsed.text == "````\n# comment\nx = '```'\n````"
    assert cut(parsed, document_id="d")[0].headings == ()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", b"", "empty (0 bytes)"),
        ("a.pdf", pdf([""]), "no text layer (1 page, probably scanned); OCR is off"),
        ("a.pdf", b"%PDF-1.4 nothing", "damaged"),
        ("a.pdf", encrypted("secret"), "the PDF is encrypted"),
        ("a.docx", b"PK\x03\x04 cut short", "damaged"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "encrypted"),
        ("a.txt", bytes(range(256)) * 20, "binary data"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image/png"),
        ("a.zip", b"PK\x03\x04" + b"\0" * 50, "an archive (application/zip)"),
        ("a.mp3", b"ID3\x04" + b"\0" * 50, "audio/mpeg is not supported"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.json", b'{"a": ', "not valid JSON"),
        ("a.md", b"---\ntitle: x\n---\n\n", "no text"),
        ("a.html", b"<html><script>x()</script></html>", "no text"),
    ],
)
async def test_what_cannot_be_read_says_why(
    parser: KreuzbergParser, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    assert reason in await refusal(parser, tmp_path / name, content)


async def test_an_empty_password_is_no_obstacle(parser: KreuzbergParser, tmp_path: Path) -> None:
    assert (await read(parser, tmp_path / "a.pdf", encrypted(""))).text == "Secret words here."


async def test_a_missing_file_and_an_odd_name(parser: KreuzbergParser, tmp_path: Path) -> None:
    assert "No such file" in await refusal(parser, tmp_path / "nothing.txt")
    assert (await read(parser, tmp_path / "a\nb 'é'.txt", "Words.")).text == "Words."


async def test_a_zip_bomb_is_refused_unopened(parser: KreuzbergParser, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * (200 << 20))
    assert "zip bomb" in await refusal(parser, tmp_path / "bomb.docx")


async def test_memory_is_bounded_and_the_next_file_is_read(tmp_path: Path) -> None:
    parser = KreuzbergParser(memory_bytes=300 << 20)
    try:
        (tmp_path / "big.json").write_text("[" + ",".join(json.dumps({"k": i}) for i in range(1_500_000)) + "]")
        assert "needs more than 300 MiB of memory" in await refusal(parser, tmp_path / "big.json")
        assert (await read(parser, tmp_path / "a.txt", "Still here.")).text == "Still here."
    finally:
        await parser.close()


async def test_time_is_bounded_and_the_next_file_is_read(tmp_path: Path) -> None:
    parser = KreuzbergParser(timeout_s=0.3)
    try:
        await read(parser, tmp_path / "a.txt", "Warm.")
        os.kill(child_of(parser).pid, signal.SIGSTOP)  # a file that never ends
        assert await refusal(parser, tmp_path / "a.txt") == "it took longer than 0.3 s to read"
        assert (await read(parser, tmp_path / "a.txt")).text == "Warm."
    finally:
        await parser.close()


async def test_a_child_that_dies_between_files_is_replaced(parser: KreuzbergParser, tmp_path: Path) -> None:
    await read(parser, tmp_path / "a.txt", "One.")
    process = child_of(parser)
    process.kill()
    psutil.wait_procs([process], timeout=5)
    assert (await read(parser, tmp_path / "a.txt")).text == "One."


async def test_a_child_killed_at_work_is_worth_another_try(parser: KreuzbergParser, tmp_path: Path) -> None:
    await read(parser, tmp_path / "a.txt", "One.")
    process = child_of(parser)
    process.suspend()
    reading = asyncio.create_task(read(parser, tmp_path / "a.txt"))
    await asyncio.sleep(0.2)
    process.kill()
    with pytest.raises(Transient, match="killed from outside"):
        await reading


async def test_cancelling_kills_the_child(parser: KreuzbergParser, tmp_path: Path) -> None:
    await read(parser, tmp_path / "a.txt", "One.")
    process = child_of(parser)
    process.suspend()
    reading = asyncio.create_task(read(parser, tmp_path / "a.txt"))
    await asyncio.sleep(0.2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (await read(parser, tmp_path / "a.txt")).text == "One."
    assert not psutil.pid_exists(process.pid)


async def test_the_child_is_bounded_and_knows_no_secret(
    parser: KreuzbergParser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    await read(parser, tmp_path / "a.txt", "One.")
    process = child_of(parser)
    assert "OPENAI_API_KEY" not in process.environ()
    assert os.getsid(process.pid) == process.pid
    limits = {name: process.rlimit(getattr(psutil, f"RLIMIT_{name}"))[0] for name in ("AS", "CORE", "FSIZE", "NOFILE", "CPU")}
    assert limits["AS"] == 1 << 30
    assert limits["CORE"] == 0
    assert limits["FSIZE"] == 1 << 20
    assert limits["NOFILE"] == 64
    assert 0 < limits["CPU"] < 200


async def test_close_is_final_and_may_be_called_twice(tmp_path: Path) -> None:
    parser = KreuzbergParser()
    await read(parser, tmp_path / "a.txt", "One.")
    process = child_of(parser)
    await parser.close()
    await parser.close()
    assert not psutil.pid_exists(process.pid)


async def test_a_child_that_cannot_start_says_so(tmp_path: Path) -> None:
    parser = KreuzbergParser(memory_bytes=16 << 20)
    try:
        with pytest.raises(SetupError, match="does not start"):
            await read(parser, tmp_path / "a.txt", "One.")
    finally:
        await parser.close()


async def test_calls_wait_for_one_another(parser: KreuzbergParser, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"Text {number}.")
    found = await asyncio.gather(*(read(parser, tmp_path / f"{number}.txt") for number in range(20)))
    assert [parsed.text for parsed in found] == [f"Text {number}." for number in range(20)]


async def test_a_real_collection_ends_as_text_or_as_a_reason(parser: KreuzbergParser, tmp_path: Path) -> None:
    folder = os.environ.get("PILOTIS_TEST_DATA")
    archive = Path(folder, "raw-mixed-parsers.tar.gz") if folder else None
    if archive is None or not archive.is_file():
        pytest.skip("PILOTIS_TEST_DATA names no folder with raw-mixed-parsers.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    root = next(tmp_path.glob("*/MANIFEST.csv")).parent
    outcomes: dict[str, list[tuple[str, str]]] = {}
    with (root / "MANIFEST.csv").open() as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        try:
            parsed = await read(parser, root / row["path"])
            parsed.text.encode()
            outcome = f"text ({len(cut(parsed, document_id=row['path']))} passages)"
        except Permanent as error:
            outcome = error.message
        assert len(outcome) > 10, row["path"]
        outcomes.setdefault(row["category"], []).append((row["path"], outcome))
        print(f"{row['path']:70.70} {outcome}")
    read_normally = [path for path, outcome in outcomes["normal"] if outcome.startswith("text")]
    assert len(read_normally) >= 0.95 * len(outcomes["normal"])
    assert len(rows) > 100


def child_of(parser: KreuzbergParser) -> psutil.Process:
    child = parser._child
    assert child is not None
    return psutil.Process(child.process.pid)


def test_media_type_is_exported() -> None:
    assert media_type("a.pdf", b"") == "application/pdf"
