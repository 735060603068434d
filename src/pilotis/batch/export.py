"""The road out: documents and passages into a file that other programs read, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from pilotis.ports.export import Row, Sheet


class LinesSheet:
    """One JSON object per line. The file is closed in the end, unless it is `shared`, as standard output is."""

    def __init__(self, file: TextIO, *, shared: bool = False) -> None:
        self._file, self._shared = file, shared

    def write(self, rows: Sequence[Row]) -> None:
        self._file.writelines(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)

    def close(self) -> None:
        self._file.flush()
        if not self._shared:
            self._file.close()


async def export(rows: AsyncGenerator[Sequence[Row], None], sheet: Sheet, *, tell: Callable[[int], None]) -> int:
    """Write all of them, a few at a time; how many there were. `tell` hears how many until now."""
    written = 0
    try:
        async with aclosing(rows):
            async for some in rows:
                await asyncio.to_thread(sheet.write, some)
                written += len(some)
                tell(written)
    finally:
        sheet.close()
    return written


async def into_file(
    rows: AsyncGenerator[Sequence[Row], None], path: Path, open_sheet: Callable[[Path], Sheet], *, tell: Callable[[int], None]
) -> int:
    """The same into a file that takes its name when it is complete and on the disk. Raises OSError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        written = await export(rows, open_sheet(aside), tell=tell)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
    return written


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
