"""Rows as `COPY ... (FORMAT binary)` writes them: counted, and known for whole, without a database.

A signature and a header; for each row the number of its fields as 16 bits, and for each field its length as 32 bits (-1 for NULL) and
its bytes; at the end -1 as 16 bits. See "Binary Format" in Postgres' documentation of COPY.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterable

from pilotis.errors import Permanent

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER = len(_SIGNATURE) + 8
_END = -1
_short, _long = struct.Struct("!h").unpack_from, struct.Struct("!i").unpack_from


async def count(content: AsyncIterable[bytes]) -> int:
    """How many rows there are. Raises Permanent where they are cut off, or are none."""
    counter = _Counter()
    async for chunk in content:
        await asyncio.to_thread(counter.feed, chunk)
    if not counter.has_ended:
        raise Permanent("a table's rows are cut off")
    return counter.rows


class _Counter:
    def __init__(self) -> None:
        self.rows, self.has_ended = 0, False
        self._left = b""
        self._begun = False

    def feed(self, chunk: bytes) -> None:
        data = self._left + chunk
        at = 0
        if not self._begun:
            if len(data) < _HEADER:
                self._left = data
                return
            if not data.startswith(_SIGNATURE):
                raise Permanent("a table's file does not hold rows of Postgres")
            at, self._begun = _HEADER + int(_long(data, len(_SIGNATURE) + 4)[0]), True
        while (after := self._row(data, at)) is not None:
            at = after
        self._left = data[at:]

    def _row(self, data: bytes, at: int) -> int | None:
        """Where the row at `at` ends; None where it is not all there, or is none."""
        if len(data) < at + 2 or self.has_ended:
            return None
        (fields,) = _short(data, at)
        if fields == _END:
            self.has_ended = True
            return None
        at, size = at + 2, len(data)
        for _ in range(fields):
            if size < at + 4:
                return None
            (length,) = _long(data, at)
            at += 4 + max(0, length)
        if at > size:
            return None
        self.rows += 1
        return at
