"""Bytes of strangers into a file, no more of them than are wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pilotis.errors import Invalid

_CHUNK = 1 << 20


def pour(read: Callable[[int], bytes], into: Path, most_bytes: int) -> None:
    """Copy until `read` gives nothing more. Raises Invalid after `most_bytes`."""
    size = 0
    with into.open("wb") as copy:
        while chunk := read(_CHUNK):
            size += len(chunk)
            if size > most_bytes:
                raise too_large(most_bytes)
            copy.write(chunk)


def too_large(most_bytes: int) -> Invalid:
    """The refusal of a file that has more."""
    return Invalid(
        f"has more than {most_bytes:,} bytes",
        remedy="exclude it, split it, or raise limits.max_file_mib in the contract",
        status=413,
        code="file_too_large",
    )
