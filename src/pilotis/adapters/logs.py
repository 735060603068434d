"""Log lines on stderr: JSON for machines, text for people. One line each, whatever stands in it; no API key ever."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

from pilotis.errors import SetupError
from pilotis.ports import trace

FORMS = ("json", "text")
LEVELS = ("debug", "info", "warning", "error")

REQUESTS = logging.getLogger("pilotis.request")
"""One line for each request."""

FIELDS = "pilotis_fields"
"""Attribute of a record: what its line says besides its message."""

_SECRETS = re.compile(r"\b(plt_|sk-)[A-Za-z0-9_-]{20,}")
_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""JSON lets these stand; some readers of lines break at them."""
_QUIET = {
    "psycopg.pool": logging.ERROR,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "openai": logging.WARNING,
    "botocore": logging.WARNING,
}


def start(*, form: str = "json", level: str = "info", process: str = "", stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream`, stderr by default. Raises SetupError for a form or a level that does not exist."""
    for what, given, known in (("PILOTIS_LOG", form, FORMS), ("PILOTIS_LOG_LEVEL", level, LEVELS)):
        if given not in known:
            raise SetupError(f"{what} is {given!r}", remedy=f"set it to one of: {', '.join(known)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(process) if form == "json" else TextLines(process))
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def request(message: str, fields: Mapping[str, Any], level: int = logging.INFO) -> None:
    """The line of one request. Goes past the search for the caller's file and line, which takes longer than writing it."""
    if REQUESTS.isEnabledFor(level):
        record = REQUESTS.makeRecord(REQUESTS.name, level, "", 0, message, (), None)
        setattr(record, FIELDS, fields)
        REQUESTS.handle(record)


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `message`, `process`, the ids of the request it belongs to, then fields of its own."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._process,
        }
        fields = getattr(record, FIELDS, None)
        if fields is not None:
            return _json(line | {name: value for name, value in fields.items() if value is not None})
        line |= trace.current().ids
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _masked(_json(line).translate(_BREAKS))


class TextLines(logging.Formatter):
    """The same to read: time, level, message, fields; a failure's traceback on lines of its own, indented."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = f" {process}" if process else ""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, FIELDS, {})
        shown = "".join(f" {name}={value}" for name, value in fields.items() if value is not None)
        line = _one_line(
            f"{_time(record.created)}{self._process} {record.levelname} {record.name} {record.getMessage()}{shown}"
        )
        if record.exc_info:
            # Indented, since an error may repeat what a stranger sent: a line of the log begins at the margin.
            line = "\n  ".join((line, *map(_one_line, self.formatException(record.exc_info).splitlines())))
        return _masked(line)


def _time(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(line: Mapping[str, Any]) -> str:
    try:
        return to_json(line, fallback=str, inf_nan_mode="null").decode()
    except ValueError:  # a lone surrogate
        return to_json({name: _encodable(value) for name, value in line.items()}, fallback=str, inf_nan_mode="null").decode()


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _one_line(text: str) -> str:
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    )


def _masked(line: str) -> str:
    return _SECRETS.sub(r"\1…", line)
