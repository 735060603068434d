"""Small files of every format, damaged at random: the parser gives text or a reason, never anything else, and never hangs.

The suite judges by the same examples each time. By hand, with others and more of them:

    PILOTIS_FUZZ=20000 PILOTIS_FUZZ_SEED=7 pytest -s tests/integration/hostile/test_fuzz.py
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import time
import zipfile
from collections import Counter
from pathlib import Path

import docx
import openpyxl  # type: ignore[import-untyped,unused-ignore]
import pptx
import pypdf
import pytest

from pilotis.adapters.kreuzberg import KreuzbergParser
from pilotis.errors import Permanent, Transient
from pilotis.rag.passage import cut

EXAMPLES = int(os.environ.get("PILOTIS_FUZZ", "900"))
SEED = int(os.environ.get("PILOTIS_FUZZ_SEED", "1"))
SLOW_S = 8.0
UGLY = re.compile(r"Traceback|\wError\b|panick|/tmp/|\.rs:", re.IGNORECASE)
TOKENS = (
    b"\0",
    b"\xff\xfe",
    b"<",
    b">",
    b"&#x110000;",
    b"%s",
    b"\\u0000",
    b"99999999999",
    b"-1",
    b'"',
    b"{",
    b"[",
    b"]]>",
    b"\r",
    b"\\bin9",
    b"endobj",
    b"/Length",
)

Sample = tuple[str, bytes]


@pytest.mark.timeout(0 if EXAMPLES > 1000 else 120)
async def test_damaged_files_end_as_text_or_as_a_reason(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    known = samples()
    parser = KreuzbergParser(timeout_s=SLOW_S)
    ends: Counter[str] = Counter()
    slowest = 0.0
    path = tmp_path / "content"
    try:
        for number in range(EXAMPLES):
            name, content = damaged(chance, known)
            path.write_bytes(content)
            began = time.monotonic()
            end = await _end(parser, path, name)
            slowest = max(slowest, time.monotonic() - began)
            assert not end.startswith("wrong"), (number, SEED, name, end, str(path))
            ends[end] += 1
    finally:
        await parser.close()
    print("\n", dict(ends.most_common()), f"slowest {slowest:.2f} s")
    assert ends["text"] > EXAMPLES / 10
    assert sum(count for end, count in ends.items() if "damaged" in end) > EXAMPLES / 50
    assert ends["crash"] <= EXAMPLES / 100


async def _end(parser: KreuzbergParser, path: Path, name: str) -> str:
    try:
        parsed = await parser.parse(path, name=name, media_type="")
    except (Permanent, Transient) as error:
        said = f"{error.message}; {error.remedy}"
        if UGLY.search(said) or len(said) > 400 or not error.remedy:
            return f"wrong: {said}"
        if "crashed" in said or isinstance(error, Transient):
            return "crash"
        return " ".join(error.message.split()[:5])
    parsed.text.encode()
    if "\0" in parsed.text or any("\0" in warning for warning in parsed.warnings) or not parsed.text.strip():
        return "wrong: NUL or no text"
    for passage in cut(parsed, document_id="d"):
        if passage.text != parsed.text[passage.start : passage.end]:
            return "wrong: offsets"
    return "text"


def damaged(chance: random.Random, known: list[Sample]) -> Sample:
    name, content = chance.choice(known)
    inside = content.startswith(b"PK") and chance.random() < 0.7
    content = _inside(chance, content) if inside else _mutated(chance, content)
    if chance.random() < 0.05:
        name = chance.choice(known)[0]
    if chance.random() < 0.03:
        content += chance.choice(known)[1]
    return name, content or b"x"


def _mutated(chance: random.Random, content: bytes) -> bytes:
    out = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(7):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 2:
                del out[at : at + chance.choice((1, 4, 64, 1024))]
            case 3:
                out[at:at] = chance.choice(TOKENS) * chance.choice((1, 1, 3, 500))
            case 4:
                start = chance.randrange(len(out) + 1)
                out[at:at] = out[start : start + chance.choice((4, 40, 400))]
            case 5:
                out[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x01\0\0\0"))
            case _ if chance.random() < 0.3:
                del out[at:]
    return bytes(out)


def _inside(chance: random.Random, content: bytes) -> bytes:
    """One part of the archive is damaged, so that it is the reader which meets the damage and not the checksum."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        names = source.namelist()
        chosen = chance.choice(names)
        for name in names:
            part = source.read(name)
            if name == chosen:
                if chance.random() < 0.05:
                    continue
                part = _mutated(chance, part)
            target.writestr(zipfile.ZipInfo(name), part)
    return out.getvalue()


def samples() -> list[Sample]:
    text = (
        "# Bridges\n\nThe toll at the old bridge is seven coins. L'été, le péage coûte 3 €.\n\n- one\n- two\n\n```\ncode\n```\n"
    )
    html = "<html><head><meta charset=utf-8><title>T</title></head><body><h1>H</h1><p>Un <b>été</b>.</p><table><tr><td>a</td></tr></table></body></html>"
    boundary = "--b\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\nPHA+aGk8L3A+\n--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\nx\n--b--\n"
    mail = f"From: A <a@b.c>\nTo: d@e.f\nDate: Mon, 1 Jan 2024 10:00:00 +0100\nSubject: =?utf-8?q?caf=C3=A9?=\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{boundary}"
    rtf = r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset128 B;}}\f0 caf\'e9 \b bold\b0\par {\f1 \'83\'5d\'83\'8b}\u233?}"
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# T\n", "words"]},
        {"cell_type": "code", "metadata": {}, "source": ["x = 1"], "outputs": [], "execution_count": 1},
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    plain = {
        "a.md": text, "a.txt": text, "a.html": html, "a.csv": 'Name;Amount\nAl;1,5\n"B\nC";2\n', "a.tsv": "a\tb\n1\t2\n",
        "a.json": json.dumps({"title": "T", "rows": [{"n": 1, "s": "été"}, {"n": 2.5, "deep": {"a": [1, [2]]}}]}), "a.jsonl": '{"a": 1}\n{"b": "x"}\n',
        "a.eml": mail, "a.rtf": rtf, "a.xml": '<?xml version="1.0"?><r a="b"><x>One</x><y><![CDATA[Two]]></y></r>', "a.ipynb": json.dumps(notebook),
        "a.rst": "Title\n=====\n\nWords *here*.\n\n.. note:: x\n", "a.tex": "\\documentclass{article}\n\\begin{document}\n\\section{S}\nWords $x^2$.\n\\end{document}\n",
        "a.org": "* Head\nWords /here/.\n", "a.fb2": '<?xml version="1.0"?><FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><body><section><p>Words.</p></section></body></FictionBook>',
        "a.py": "def f():\n    return 1\n",
    }  # fmt: skip
    old = [
        ("old.txt", "Здравствуйте, это старый текст.".encode("cp1251")),
        ("wide.txt", text.encode("utf-16")),
        ("old.html", html.encode("latin-1")),
    ]
    return [*((name, content.encode()) for name, content in plain.items()), *old, *_binary()]


def _binary() -> list[Sample]:
    document = docx.Document()
    document.add_heading("Head", 1)
    document.add_paragraph("Words about bridges.")
    document.add_table(2, 2).cell(0, 0).text = "cell"
    book = openpyxl.Workbook()
    for row in (["Name", "Amount"], ["Al", 1.5], ["Bo", "=1+1"]):
        book.active.append(row)
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Slide"
    slide.placeholders[1].text = "Point"
    writer = pypdf.PdfWriter()
    writer.append(pypdf.PdfReader(io.BytesIO(_pdf())))
    writer.add_metadata({"/Title": "T"})
    writer.add_attachment("a.txt", b"x")
    made: list[Sample] = []
    for name, save in (("a.docx", document.save), ("a.xlsx", book.save), ("a.pptx", deck.save), ("b.pdf", writer.write)):
        out = io.BytesIO()
        save(out)  # type: ignore[operator,unused-ignore]
        made.append((name, out.getvalue()))
    return [*made, ("a.pdf", _pdf()), ("a.pdf", _pdf()), ("a.odt", _odt()), ("a.epub", _epub())]


def _pdf() -> bytes:
    stream = b"BT /F1 12 Tf 72 720 Td 14 TL (The toll is seven coins.) Tj T* (Second line.) Tj ET"
    bodies = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out, table = b"%PDF-1.4\n", b""
    for number, body in enumerate(bodies, 1):
        table += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n" + table + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start


def _odt() -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    kinds = " ".join(f'xmlns:{name}="{space}:{name}:1.0"' for name in ("office", "text", "manifest"))
    body = '<office:body><office:text><text:h text:outline-level="1">Head</text:h><text:p>Words.</text:p></office:text></office:body>'
    return _zip(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "META-INF/manifest.xml": f"<manifest:manifest {kinds}/>",
            "content.xml": f"<office:document-content {kinds}>{body}</office:document-content>",
        }
    )


def _epub() -> bytes:
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<dc:title>Book</dc:title></metadata><manifest><item id="c1" href="c1.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c1"/></spine></package>'
    )
    chapter = '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>One</h1><p>Words.</p></body></html>'
    return _zip(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "c.opf": package, "c1.xhtml": chapter}
    )


def _zip(members: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()
