"""Multipart uploads straight to disk: bounded while reading, never whole in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pilotis.api.bodies import form_chunks, too_large
from pilotis.errors import Invalid

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FILES = 100
MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 20
HEAD_BYTES = 4096
CHUNK_BYTES = 256 * 1024
"""How much is gathered before it is handed to a thread to parse and write."""
MAX_SKIPPED_BYTES = 256 * 1024 * 1024
"""So much of files that are too large is read to get to those behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file; `path` lives as long as the request, and holds nothing where `size` is over the limit."""

    name: str
    path: Path
    size: int

    def head(self) -> bytes:
        """The first bytes, which tell the format better than what the client calls it."""
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)


async def read_form(request: Request, folder: Path, *, max_file_bytes: int) -> tuple[list[Upload], dict[str, str]]:
    """The files, written into `folder`, and the text fields of a multipart form.

    A file larger than `max_file_bytes` is read past, for the sake of those behind it: only its size tells.

    Raises Invalid: 415 for another content type, 413 for far too much, 408 where it dribbles, 422 for a malformed form.
    """
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        named = f"content type {media_type.decode('latin-1')!r}" if media_type else "a body without content type"
        raise Invalid(
            f"{named} is not read here",
            remedy="send the files as multipart/form-data, each under the name 'file'",
            status=415,
            code="media_type",
        )
    form = _Form(folder, max_file_bytes)
    try:
        parser = MultipartParser(parameters.get(b"boundary", b""), form.callbacks())
        gathered = bytearray()
        async for chunk in form_chunks(request):
            gathered += chunk
            if len(gathered) >= CHUNK_BYTES:
                await asyncio.to_thread(parser.write, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(parser.write, bytes(gathered))
    except FormParserError as error:
        raise Invalid(f"the form cannot be read: {error}", remedy="send multipart/form-data") from error
    finally:
        form.close()
    if not form.ended:
        form.check_size()
        raise Invalid("the form breaks off before its end", remedy="send it again")
    return form.files, form.fields


class _Form:
    """What the parser's callbacks build. They run in a worker thread, one call at a time."""

    def __init__(self, folder: Path, max_file_bytes: int) -> None:
        self.files: list[Upload] = []
        self.fields: dict[str, str] = {}
        self.ended = False
        self._folder = folder
        self._limit = max_file_bytes
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._field = ""
        self._text = bytearray()
        self._file: IO[bytes] | None = None
        self._file_name = ""
        self._size = self._skipped = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def close(self) -> None:
        if self._file:
            self._file.close()

    def check_size(self) -> None:
        """Raises Invalid (413) where the file that came last, perhaps in part, is too large."""
        if self._file and self._size > self._limit:
            raise too_large(f"{self._file_name!r}", self._limit, f"at least {self._size:,} bytes", remedy="split the file")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value.strip()
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = _utf8(parameters.get(b"name", b""), "the name of a field")
        self._text.clear()
        self._size = 0
        if b"filename" not in parameters:
            if len(self.fields) >= MAX_FIELDS:
                raise Invalid(f"the form has more than {MAX_FIELDS} fields", remedy="send the fields that /docs names")
            return
        if len(self.files) >= MAX_FILES:
            raise Invalid(
                f"the form has more than {MAX_FILES} files",
                remedy="send them in several requests",
                status=413,
                code="too_large",
            )
        self._file_name = _utf8(parameters[b"filename"], "a file's name")
        self._file = (self._folder / f"{len(self.files):03d}").open("wb")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._file is None:
            if self._size > MAX_FIELD_BYTES:
                raise too_large(f"the field {self._field!r}", MAX_FIELD_BYTES, f"more than {MAX_FIELD_BYTES:,} bytes")
            self._text += data[start:end]
            return
        if self._size > self._limit:
            self._skip(end - start)
        else:
            self._file.write(data[start:end])

    def _skip(self, size: int) -> None:
        assert self._file
        self._file.truncate(0)
        self._skipped += size
        if self._skipped > MAX_SKIPPED_BYTES:
            raise too_large(f"{self._file_name!r}", self._limit, f"at least {self._size:,} bytes", remedy="split the file")

    def _on_part_end(self) -> None:
        if self._file is None:
            if self._field in self.fields:
                raise Invalid(f"the field {self._field!r} is given twice", remedy="give it once")
            self.fields[self._field] = _utf8(bytes(self._text), f"the field {self._field!r}")
            return
        self._file.close()
        self.files.append(Upload(name=self._file_name, path=Path(self._file.name), size=self._size))
        self._file = None

    def _on_end(self) -> None:
        self.ended = True


def _utf8(raw: bytes, what: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{what} is not UTF-8", remedy="encode names and fields as UTF-8") from None
    if "\0" in text:
        raise Invalid(f"{what} contains a NUL character", remedy="remove it")
    return text
