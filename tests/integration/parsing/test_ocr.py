"""Scans through the real child, inside its fence; needs Tesseract's data for English (Debian: tesseract-ocr-eng)."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import docx
import pypdf
import pytest
from PIL import Image, ImageDraw, ImageFont

from pilotis.adapters.kreuzberg import KreuzbergParser
from pilotis.adapters.kreuzberg.tesseract import tesseract
from pilotis.errors import Permanent, SetupError
from pilotis.rag.passage import Parsed

try:
    tesseract(("en",))
except SetupError as missing:
    pytest.skip(f"no OCR here: {missing.message}: {missing.remedy}", allow_module_level=True)


@pytest.fixture(scope="module")
def parser() -> Iterator[KreuzbergParser]:
    parser = KreuzbergParser(ocr_languages=("en",))
    yield parser
    asyncio.run(parser.close())


async def read(parser: KreuzbergParser, path: Path) -> Parsed:
    return await parser.parse(path, name=path.name, media_type="application/octet-stream")


def picture(words: str) -> Image.Image:
    image = Image.new("RGB", (1240, 400), "white")
    ImageDraw.Draw(image).text((60, 120), words, "black", ImageFont.load_default(64))
    return image


def png(words: str) -> bytes:
    out = io.BytesIO()
    picture(words).save(out, "PNG")
    return out.getvalue()


async def test_a_scanned_page_between_others(parser: KreuzbergParser, tmp_path: Path) -> None:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(595, 842)
    scan = io.BytesIO()
    picture("The toll is seven coins").save(scan, "PDF", resolution=150)
    writer.append(pypdf.PdfReader(scan))
    writer.write(tmp_path / "a.pdf")
    parsed = await read(parser, tmp_path / "a.pdf")
    assert "The toll is seven coins" in parsed.text
    assert len(parsed.page_starts) == 2
    assert parsed.text[parsed.page_starts[1] :].startswith("The toll")
    assert set(parsed.warnings) == {"the text of 1 of 2 pages was read by OCR", "no text on 1 of 2 pages, not even for OCR"}


async def test_an_image_and_a_word_file_with_one(parser: KreuzbergParser, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("Bridges are closed on Monday"))
    parsed = await read(parser, tmp_path / "a.png")
    assert parsed.text.strip() == "Bridges are closed on Monday"
    assert parsed.warnings == ("read by OCR",)
    document = docx.Document()
    document.add_paragraph("See the notice:")
    document.add_picture(io.BytesIO(png("Ferries run all night")))
    document.save(str(tmp_path / "a.docx"))
    parsed = await read(parser, tmp_path / "a.docx")
    assert parsed.text.startswith("See the notice:")
    assert "Ferries run all night" in parsed.text
    assert parsed.warnings == ("1 image was read by OCR; the text is at the end",)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "no image that can be shown"),
        ("b.png", png(""), "OCR found none either"),
        ("a.gif", b"GIF89a" + bytes(50), "OCR"),
    ],
)
async def test_what_ocr_cannot_read(parser: KreuzbergParser, tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Permanent, match=reason):
        await read(parser, tmp_path / name)


async def test_an_image_too_large_to_unpack_harms_nobody(parser: KreuzbergParser, tmp_path: Path) -> None:
    Image.new("1", (40_000, 40_000)).save(tmp_path / "bomb.png")
    with pytest.raises(Permanent) as caught:
        await read(parser, tmp_path / "bomb.png")
    assert "crashed" not in caught.value.message
    (tmp_path / "a.png").write_bytes(png("Still here"))
    assert (await read(parser, tmp_path / "a.png")).text.strip() == "Still here"


async def test_a_page_of_any_size_is_tried(parser: KreuzbergParser, tmp_path: Path) -> None:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(14_400, 14_400)
    writer.write(tmp_path / "a.pdf")
    with pytest.raises(Permanent, match="OCR found none either"):
        await read(parser, tmp_path / "a.pdf")


async def test_time_that_runs_out_keeps_what_was_read(tmp_path: Path) -> None:
    writer = pypdf.PdfWriter()
    scan = io.BytesIO()
    picture("The toll is seven coins").save(scan, "PDF", resolution=150)
    for _ in range(60):
        writer.append(pypdf.PdfReader(scan))
    writer.write(tmp_path / "a.pdf")
    parser = KreuzbergParser(ocr_languages=("en",), timeout_s=4)
    try:
        parsed = await read(parser, tmp_path / "a.pdf")
    finally:
        await parser.close()
    assert parsed.text.startswith("The toll")
    assert "OCR had no time left for them" in parsed.warnings[-1]


async def test_missing_data_is_said_and_not_the_file_s_fault(tmp_path: Path) -> None:
    parser = KreuzbergParser(ocr_languages=("en",), tessdata=str(tmp_path))
    try:
        with pytest.raises(SetupError, match="Tesseract's data is missing for: eng"):
            await parser.unbounded()
    finally:
        await parser.close()
