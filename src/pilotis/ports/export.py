"""Documents and passages for other programs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, Protocol

Kind = Literal["documents", "passages"]
Row = Mapping[str, Any]
"""Values are None, text, whole numbers, `datetime`, lists of text, lists of numbers, and JSON objects."""


class Exports(Protocol):
    """Rows as of one moment, some at a time."""

    def rows(self, kind: Kind, *, bu: str | None, vectors: bool = False) -> AsyncGenerator[Sequence[Row], None]:
        """Of one business unit, or of all. `vectors` adds those of the active generation to passages."""
        ...


class Sheet(Protocol):
    """A file being written, row by row."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None:
        """The last of it is on its way to the disk."""
        ...
