"""SQL lives in SQL: one file per table, each statement under a `-- name:` line, loaded once."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@lru_cache
def statements(file: str) -> dict[str, LiteralString]:
    """The statements of `sql/<file>.sql` by name. A statement is trusted text: values travel as parameters."""
    text = files("pilotis.adapters.postgres").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}
