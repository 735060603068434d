"""Small files that unfold, nest, repeat, point elsewhere or lie about themselves: text or a reason, within the bounds, every time."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotis.adapters.kreuzberg import KreuzbergParser
from pilotis.errors import Permanent

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/></Types>'
)
RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"/></Relationships>'
)
LAUGHS = '<!DOCTYPE l [<!ENTITY a "lolol">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(9)
)  # fmt: skip
OUTSIDE = '<!DOCTYPE l [<!ENTITY j SYSTEM "file:///etc/passwd">'


@pytest.fixture(scope="module")
def parser() -> Iterator[KreuzbergParser]:
    parser = KreuzbergParser(timeout_s=15)
    yield parser
    asyncio.run(parser.close())


Content = bytes | str | Callable[[], bytes]


async def outcome(parser: KreuzbergParser, path: Path, content: Content) -> str:
    """The text, or the reason with its remedy."""
    content = content() if callable(content) else content
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        return (await parser.parse(path, name=path.name, media_type="")).text
    except Permanent as error:
        return f"{error.message}; {error.remedy}"


def packed(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def word(body: str, doctype: str = "", /, **more: str | bytes) -> bytes:
    document = f'<?xml version="1.0"?>{doctype}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    relations = RELATIONS.format(kind="officeDocument", target="word/document.xml")
    return packed({"[Content_Types].xml": TYPES, "_rels/.rels": relations, "word/document.xml": document, **more})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def workbook(rows: str) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    spaces = f'xmlns="{main}" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    return packed(
        {
            "[Content_Types].xml": TYPES,
            "_rels/.rels": RELATIONS.format(kind="officeDocument", target="xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook {spaces}><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": RELATIONS.format(kind="worksheet", target="worksheets/sheet1.xml"),
            "xl/worksheets/sheet1.xml": f"<worksheet {spaces}><sheetData>{rows}</sheetData></worksheet>",
        }
    )


def open_document(cells: str) -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    kinds = " ".join(f'xmlns:{name}="{space}:{name}:1.0"' for name in ("office", "table", "text"))
    content = f"<office:document-content {kinds}><office:body><office:spreadsheet>{cells}</office:spreadsheet></office:body></office:document-content>"
    manifest = f'<manifest:manifest xmlns:manifest="{space}:manifest:1.0"/>'
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    return packed({"mimetype": kind, "META-INF/manifest.xml": manifest, "content.xml": content})


def lying(content: bytes) -> bytes:
    """The same archive, whose last part claims to unpack to 10 bytes."""
    at = content.rindex(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", 10) + content[at + 28 :]


def locked(content: bytes) -> bytes:
    """The same archive, whose parts are marked as encrypted."""
    out = bytearray(content)
    at = -1
    while (at := out.find(b"PK\x01\x02", at + 1)) >= 0:
        out[at + 8] |= 1
    return bytes(out)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.docx", lambda: packed({f"word/{n}.xml": "x" for n in range(20_001)}, zipfile.ZIP_STORED), "20,001 parts, and 20,000 is the most"),
        ("a.docx", lambda: packed({"word/document.xml": "0" * (40 << 20)}), "(a zip bomb?); save it again"),
        ("a.docx", lambda: packed({"word/document.xml": "0" * (40 << 20)}, zipfile.ZIP_LZMA), "(a zip bomb?); save it again"),
        ("a.docx", lying(packed({"word/document.xml": "0" * (5 << 20)})), "larger than it declares"),
        ("a.docx", locked(word(paragraph("hi"))), "protected by a password; remove the password"),
        ("a.odt", packed({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": b"\xff" * 99,
            "META-INF/manifest.xml": "<m:file-entry><m:encryption-data/></m:file-entry>"}), "protected by a password"),
        ("a.epub", packed({"mimetype": "application/epub+zip",
            "META-INF/encryption.xml": '<CipherReference URI="OEBPS/one.xhtml"/>'}), "protected by a password"),
        ("a.docx", packed({"a.txt": "x"}), "damaged: a part of it is missing"),
        ("a.zip", packed({"a.zip": packed({"a.txt": "x"})}), "an archive (application/zip); unpack it and send the files"),
        ("a.tar", b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + bytes(600), "an archive (application/x-tar); unpack it"),
        ("a.tar.gz", b"\x1f\x8b\x08\0" + bytes(50), "an archive (application/gzip); unpack it"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), "an archive (application/x-7z-compressed); unpack it"),
        ("a.rar", b"Rar!\x1a\x07" + bytes(50), "an archive (application/vnd.rar); unpack it"),
        ("a.xz", b"\xfd7zXZ\0" + bytes(50), "an archive (application/x-xz); unpack it"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)  # fmt: skip
async def test_archives_are_refused_with_their_reason(
    parser: KreuzbergParser, tmp_path: Path, name: str, content: Content, said: str
) -> None:
    assert said in await outcome(parser, tmp_path / name, content)


async def test_what_is_inside_a_document_stays_closed(parser: KreuzbergParser, tmp_path: Path) -> None:
    """Depth one: a document in a document is named in a warning, and a quine never unfolds."""
    inner = word(paragraph("inside"))
    (tmp_path / "a.docx").write_bytes(word(paragraph("outside"), **{"word/embeddings/a.docx": inner}))
    parsed = await parser.parse(tmp_path / "a.docx", name="a.docx", media_type="")
    assert parsed.text == "outside"
    assert parsed.warnings == ("1 embedded file was not read: ingest what matters as files",)


async def test_names_that_climb_write_nothing(parser: KreuzbergParser, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    climbing = word(
        paragraph("climbs"), **{"../../climbed.xml": "x", f"{tmp_path}/absolute.xml": "x", "..\\..\\windows.xml": "x"}
    )
    assert await outcome(parser, tmp_path / "in" / "a.docx", climbing) == "climbs"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.docx", "in"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.docx", word(paragraph("hi &j;"), LAUGHS + "]>"), "hi"),
        ("a.docx", word(paragraph("hi &j;"), OUTSIDE + "]>"), "hi"),
        ("a.xml", f'<?xml version="1.0"?>{LAUGHS}]><r>hi &j;</r>', "# r\n\nhi"),
        ("a.xml", f'<?xml version="1.0"?>{OUTSIDE}]><r>hi &j;</r>', "# r\n\nhi"),
        ("a.rst", ".. include:: /etc/passwd\n\nhi\n", "hi"),
        ("a.org", '#+INCLUDE: "/etc/passwd"\nhi\n', "hi"),
        ("a.html", '<iframe src="file:///etc/passwd"></iframe><object data="file:///etc/passwd"></object><p>hi</p>', "hi"),
        ("a.md", "![x](file:///etc/passwd)\n\nhi", "hi"),
    ],
)  # fmt: skip
async def test_nothing_outside_is_read_and_no_entity_unfolds(
    parser: KreuzbergParser, tmp_path: Path, name: str, content: Content, text: str
) -> None:
    found = await outcome(parser, tmp_path / name, content)
    assert found.endswith(text)
    assert "root:" not in found
    assert len(found) < 100


CELL = (
    '<table:table-cell office:value-type="string" table:number-columns-repeated="16384"><text:p>x</text:p></table:table-cell>'
)
PDF_PAGE = b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>endobj "


def unfolding_pdf() -> bytes:
    packer = zlib.compressobj(1)
    stream = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(900)) + packer.flush()
    head = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj " + PDF_PAGE
    font = b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj "
    return (
        head
        + font
        + b"4 0 obj<</Filter/FlateDecode/Length %d>>stream\n%b\nendstream endobj trailer<</Root 1 0 R>>" % (len(stream), stream)
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("corner.xlsx", workbook('<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>')),
        ("repeat.ods", open_document(f'<table:table table:name="S"><table:table-row table:number-rows-repeated="1048576">{CELL}</table:table-row></table:table>')),
        ("deep.docx", word(paragraph("hi") + "<w:tbl><w:tr><w:tc>" * 20_000 + "</w:tc></w:tr></w:tbl>" * 20_000)),
        ("deep.xml", "<a>" * 200_000 + "hi" + "</a>" * 200_000),
        ("deep.html", "<div>" * 200_000 + "hi"),
        ("lists.html", "<ul><li>" * 30_000 + "hi"),
        ("tables.html", "<table><tr><td>" * 5000 + "hi"),
        ("deep.rtf", b"{\\rtf1 " + b"{" * 1_000_000 + b"hi"),
        ("deep.eml", "From: a@b.c\nSubject: s\n" + "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(3000)) + "\nhi\n"),
        ("wide.csv", ",".join(f"column{n:05}" for n in range(10_000)) + "\n" + (",".join("1" * 10_000) + "\n") * 600),
        ("deep.ipynb", '{"cells":' + "[" * 100_000),
        ("deep.json", json.dumps({"a": "b"}) + "{" * 10),
        ("deep.fb2", "<FictionBook>" + "<section>" * 100_000),
        ("brackets.md", "[" * 300_000), ("tags.html", "<" * 300_000), ("quotes.csv", '"' * 300_001), ("braces.tex", "{" * 300_000),
        ("arrays.pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/X " + b"[" * 300_000 + b">>endobj trailer<</Root 1 0 R>>"),
        ("unfolding.pdf", unfolding_pdf),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)  # fmt: skip
async def test_each_ends_within_the_bounds(parser: KreuzbergParser, tmp_path: Path, name: str, content: Content) -> None:
    found = await outcome(parser, tmp_path / name, content)
    assert found
    assert "Traceback" not in found
    assert "Error" not in found
    assert (await outcome(parser, tmp_path / "next.txt", "The next one.")) == "The next one."
