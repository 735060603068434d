"""Documents made up for a drill: good ones of many formats, each with words of its own, and hostile ones."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import docx
import pypdf

Expected = Literal["indexed", "failed", "refused", "either"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A file to send, and what is to become of it."""

    name: str
    kind: str
    content: bytes
    expected: Expected
    mark: str = ""
    """A word that stands in each section of this version of this document, and nowhere else."""
    reason: str = ""
    """What the reason of its failure must say."""


def written(kind: str, number: int, version: int, chance: random.Random) -> Paper:
    """One of GOOD or HOSTILE: the same for the same number, version and seed."""
    mark = f"mark{number}v{version}"
    if kind in GOOD:
        ending, write = GOOD[kind]
        content = write(mark, _sections(mark, chance))
        return Paper(name=f"report-{number:05}.{ending}", kind=kind, content=content, expected="indexed", mark=mark)
    name, write_hostile, expected, reason = HOSTILE[kind]
    content = write_hostile(mark)
    return Paper(name=f"{kind}-{number:05}{name}", kind=kind, content=content, expected=expected, reason=reason)


def of_folder(folder: Path) -> Iterator[Paper]:
    """The files of a folder, of which nobody knows what they are."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix().replace("/", "__")
        yield Paper(name=name, kind="also", content=path.read_bytes(), expected="either")


def _sections(mark: str, chance: random.Random) -> list[tuple[str, str]]:
    return [
        (
            f"Part {part} of {mark}",
            f"The {mark} bridge has a toll. "
            + " ".join(f"At mile {chance.randrange(10**6)} of {mark} it is {chance.randrange(100)} coins." for _ in range(6)),
        )
        for part in range(1, chance.randint(1, 3) + 1)
    ]


def _markdown(mark: str, sections: list[tuple[str, str]]) -> bytes:
    return (f"# Report {mark}\n\n" + "\n\n".join(f"## {head}\n\n{text}" for head, text in sections) + "\n").encode()


def _html(mark: str, sections: list[tuple[str, str]]) -> bytes:
    body = "".join(f"<h2>{head}</h2><p>{text}</p>" for head, text in sections)
    return (
        f"<!doctype html><html lang='en'><head><title>Report {mark}</title></head><body><h1>{mark}</h1>{body}</body></html>"
    ).encode()


def _csv(mark: str, sections: list[tuple[str, str]]) -> bytes:
    return ("part,text\n" + "".join(f'{head},"{text}"\n' for head, text in sections)).encode()


def _text(mark: str, sections: list[tuple[str, str]]) -> bytes:
    return "\n\n".join(f"{head}. {text}" for head, text in sections).encode()


def _json(mark: str, sections: list[tuple[str, str]]) -> bytes:
    return json.dumps([{"head": head, "text": text} for head, text in sections]).encode()


def _word(mark: str, sections: list[tuple[str, str]]) -> bytes:
    document, out = docx.Document(), io.BytesIO()
    for head, text in sections:
        document.add_heading(head, 1)
        document.add_paragraph(text)
    document.save(out)
    return out.getvalue()


def _pdf(mark: str, sections: list[tuple[str, str]]) -> bytes:
    return pdf([f"{head}\n" + text.replace(". ", ".\n") for head, text in sections])


def pdf(pages: list[str]) -> bytes:
    """The smallest PDF that shows these lines, one page for each text."""
    kinds = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"]
    kids = []
    for page in pages:
        lines = b" ".join(b"(%s) Tj T*" % line.encode("cp1252") for line in page.split("\n"))
        stream = b"BT /F1 12 Tf 72 720 Td 14 TL %s ET" % lines
        kinds.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        used = b"/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R" % len(kinds)
        kinds.append(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]%s>>" % used)
        kids.append(b"%d 0 R" % len(kinds))
    kinds[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), b" ".join(kids))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(kinds, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(kinds) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(kinds) + 1) + table + end


def _encrypted(mark: str) -> bytes:
    writer, out = pypdf.PdfWriter(), io.BytesIO()
    writer.append(pypdf.PdfReader(io.BytesIO(pdf([f"Secret words of {mark}"]))))
    writer.encrypt(mark, "owner")
    writer.write(out)
    return out.getvalue()


@cache
def _zeros() -> bytes:
    return bytes(48 << 20)


def _bomb(mark: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", _zeros())
        archive.comment = mark.encode()
    return out.getvalue()


def _cut_word(mark: str) -> bytes:
    whole = _word(mark, [(mark, "Words that nobody will read. " * 40)])
    return whole[: len(whole) * 2 // 3]


def _cut_pdf(mark: str) -> bytes:
    return b"%PDF-1.4\n% " + mark.encode() + b"\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pa"


def _noise(mark: str) -> bytes:
    return random.Random(mark).randbytes(5000)


GOOD: dict[str, tuple[str, Callable[[str, list[tuple[str, str]]], bytes]]] = {
    "markdown": ("md", _markdown),
    "html": ("html", _html),
    "csv": ("csv", _csv),
    "text": ("txt", _text),
    "json": ("json", _json),
    "word": ("docx", _word),
    "pdf": ("pdf", _pdf),
}
HOSTILE: dict[str, tuple[str, Callable[[str], bytes], Expected, str]] = {
    "cut-word": (".docx", _cut_word, "failed", "damaged"),
    "cut-pdf": (".pdf", _cut_pdf, "failed", "damaged"),
    "encrypted": (".pdf", _encrypted, "failed", "encrypted"),
    "scanned": (".pdf", lambda mark: pdf([""]) + b"\n% " + mark.encode(), "failed", "no text layer"),
    "bomb": (".docx", _bomb, "failed", "zip bomb"),
    "no-words": (".md", lambda mark: f"---\ntitle: {mark}\n---\n\n".encode(), "failed", "no text"),
    "bare-html": (".html", lambda mark: f"<html><script>{mark}()</script></html>".encode(), "failed", "no text"),
    "noise": (".txt", _noise, "failed", "binary data"),
    "deep": (".json", lambda mark: b"[" * 100_000 + mark.encode(), "failed", "nested too deeply"),
    "half-json": (".json", lambda mark: f'{{"{mark}": '.encode(), "failed", "not valid JSON"),
    "archive": (".zip", lambda mark: b"PK\x03\x04" + mark.encode().ljust(50, b"\0"), "failed", "an archive"),
    "empty": (".md", lambda _: b"", "refused", ""),
}
