"""Rows and records as lines that stand alone: every line repeats its column names, so any passage of it can be understood."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pilotis.adapters.kreuzberg.unreadable import Unreadable

MAX_CHARACTERS = 50_000_000
"""No document becomes more text than this: column names repeated on each row can multiply a file's size."""

_DELIMITERS = ",;\t|"
_LONG = 200
_DEEPEST = 60
_NUMBER = re.compile(r"[-+(]?[\d\s.,%€$£]+\)?")


def rows_text(rows: Iterable[Sequence[str]]) -> str:
    """One list item a row: "- column: value; column: value". The first row names the columns where it looks like names."""
    header: Sequence[str] | None = None
    lines: list[str] = []
    size = 0
    for number, row in enumerate(rows):
        cells = [" ".join(cell.split()) for cell in row]
        if number == 0 and _is_header(cells):
            header = cells
            continue
        line = _row(cells, header)
        if line:
            size += len(line)
            _check_size(size)
            lines.append(line)
    if not lines and header:
        lines.append("- " + "; ".join(cell for cell in header if cell))
    return "\n".join(lines)


def csv_text(text: str, *, tabs: bool = False) -> str:
    csv.field_size_limit(MAX_CHARACTERS)
    try:
        return rows_text(csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else _delimiter(text)))
    except csv.Error as error:
        raise Unreadable(f"not a table of comma-separated values: {error}", "check its quotes") from error


def json_text(text: str) -> tuple[str, str | None]:
    """A JSON document as headings, "key: value" lines and records; and its title, where it has one.

    Numbers keep the digits they were written with.
    """
    try:
        value = json.loads(text, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise Unreadable("its JSON is nested too deeply", "flatten it") from error
    except ValueError as error:
        raise Unreadable(f"not valid JSON: {error}", "correct it, or name it .txt to have it taken as it is") from error
    return _value_text(value), _json_title(value)


def json_lines_text(text: str) -> tuple[str, list[str]]:
    """One JSON document a line; lines that are none are left out and counted."""
    lines: list[str] = []
    bad = size = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            bad += 1
            continue
        record = "\n".join(_record(value))
        size += len(record)
        _check_size(size)
        lines.append(record)
    if bad and not lines:
        raise Unreadable("none of its lines is valid JSON", "correct it, or name it .txt to have it taken as it is")
    return "\n".join(lines), [f"{bad} lines are not valid JSON and were left out"] if bad else []


def _row(cells: Sequence[str], header: Sequence[str] | None) -> str:
    names = header or ()
    pairs = [(names[index] if index < len(names) else "", cell) for index, cell in enumerate(cells) if cell]
    return "- " + "; ".join(f"{name}: {cell}" if name else cell for name, cell in pairs) if pairs else ""


def _is_header(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return (
        len(filled) > len(cells) // 2
        and len(set(filled)) == len(filled)
        and not any(_NUMBER.fullmatch(cell) or len(cell) > _LONG for cell in filled)
    )


def _delimiter(text: str) -> str:
    """The one that splits the first lines most evenly."""
    lines = [line for line in text[:20_000].split("\n")[:20] if line.strip()]

    def score(delimiter: str) -> tuple[float, int]:
        counts = [line.count(delimiter) for line in lines]
        common = max(set(counts), key=counts.count) if counts else 0
        return (counts.count(common) / len(counts) if common else 0.0), common

    return max(_DELIMITERS, key=score)


def _value_text(value: Any) -> str:
    parts: list[str] = []
    size = 0
    for part in _walk(value, 1):
        size += len(part)
        _check_size(size)
        parts.append(part)
    return "\n".join(parts)


def _walk(value: Any, level: int) -> Iterator[str]:
    if level > _DEEPEST:
        raise Unreadable("its JSON is nested too deeply", "flatten it")
    if isinstance(value, Mapping):
        yield from _record({key: item for key, item in value.items() if not isinstance(item, Mapping | list)}, "- ")
        for key, item in value.items():
            if isinstance(item, Mapping | list) and item:
                yield f"\n{'#' * min(level, 6)} {' '.join(str(key).split())}\n"
                yield from _walk(item, level + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _record(item)
    else:
        yield from _record(value)


def _record(value: Any, separator: str = "; ") -> Iterator[str]:
    """One line of "key: value" pairs, then the long texts, each as a paragraph. With "- " each pair has a line of its own."""
    short: list[str] = []
    long: list[str] = []
    for name, item in _flat(value, "", 0):
        text = _scalar(item)
        if not text:
            continue
        labelled = f"{name}: {text}" if name else text
        (long if len(text) > _LONG or "\n" in text else short).append(labelled)
    if short and separator == "- ":
        yield from (f"- {pair}" for pair in short)
    elif short:
        yield "- " + separator.join(short)
    for text in long:
        yield f"\n{text}\n"


def _flat(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        raise Unreadable("its JSON is nested too deeply", "flatten it")
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for index, item in enumerate(value, 1):
            yield from _flat(item, f"{name}.{index}" if name else str(index), depth + 1)
    elif isinstance(value, list):
        yield name, ", ".join(filter(None, map(_scalar, value)))
    else:
        yield name, value


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip()


def _json_title(value: Any) -> str | None:
    if isinstance(value, Mapping):
        for key in ("title", "titre", "name", "nom"):
            if isinstance(value.get(key), str) and value[key].strip():
                return str(value[key]).strip()
    return None


def _check_size(characters: int) -> None:
    if characters > MAX_CHARACTERS:
        raise Unreadable(
            f"it holds more than {MAX_CHARACTERS / 1e6:.0f} million characters of text", "split it into several files"
        )
