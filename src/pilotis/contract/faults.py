"""What the validator found, said for the person who wrote the file: where, what, and what to do."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pilotis.contract.fields import WORDS, Record
from pilotis.contract.model import Contract

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_SECRET = re.compile(r"(?i)key|secret|password|token$|url$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong. `line` is 1-based, None where it is not known."""

    key: str
    """Path of the key, such as `envs.prod.top_k`."""
    value: str | None
    """As it would be written; None where a key is missing, or where it may be a secret."""
    problem: str
    remedy: str
    line: int | None = None

    @property
    def where(self) -> str:
        return f":{self.line}" if self.line else ""

    @property
    def text(self) -> str:
        shown = "" if self.value is None else f" = {self.value}"
        return f"{self.key}{shown}: {self.problem}"


def explain(error: ValidationError, toml: str = "") -> list[Fault]:
    """The faults in the order of the file, with their lines where `toml` is its text."""
    lines = dict(_lines(toml))
    faults = [_fault(detail, lines) for detail in error.errors(include_url=False)]
    return sorted(faults, key=lambda fault: fault.line or 0)


def _fault(detail: ErrorDetails, lines: Mapping[tuple[str, ...], int]) -> Fault:
    path = tuple(part for part in detail["loc"] if part not in {"[key]", "[entry]", "[entries]"})
    names = tuple(str(part) for part in path)
    problem, remedy = _say(detail, path)
    line = next((lines[names[:end]] for end in range(len(names), 0, -1) if names[:end] in lines), None)
    return Fault(key=_dotted(path) or "the contract", value=_value(detail, names), problem=problem, remedy=remedy, line=line)


def _say(detail: ErrorDetails, path: tuple[int | str, ...]) -> tuple[str, str]:
    kind, context, key = detail["type"], detail.get("ctx", {}), str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind == "missing":
        return "is missing", f"Add {key} to [{_dotted(path[:-1])}]."
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return f"is none of {', '.join(allowed)}", _did_you_mean(
            detail["input"], allowed
        ) or f"Use one of: {', '.join(allowed)}."
    if kind == "string_pattern_mismatch":
        words = WORDS.get(str(context.get("pattern")), "does not have the right form")
        flags = ("hybrid", "rerank", "prompt_v1")
        guess = _did_you_mean(detail["input"], flags) if "flags" in path else ""
        return words, guess or "Correct the value."
    if kind == "value_error":
        problem, *remedy = context["error"].args
        return problem, remedy[0] if remedy else "Correct the value."
    problem, cure = _KINDS.get(kind, (detail["msg"].replace("{", "").replace("}", ""), "Correct the value."))
    return problem.format(**{name: _bare(value) for name, value in context.items()}), cure


_KINDS: Mapping[str, tuple[str, str]] = {
    "int_type": ("must be a whole number", "Write it without quotes and without a decimal point."),
    "bool_type": ("must be true or false", "Write true or false, without quotes."),
    "string_type": ("must be text", "Put it between double quotes."),
    "date_type": ("must be a date", "Write it as 2025-06-30."),
    "model_type": ("must be a table", "Write its keys below a [table] header, or a model's name between quotes."),
    "dict_type": ("must be a table", "Write its keys below a [table] header."),
    "mapping_type": ("must be a table", "Write its keys below a [table] header."),
    "tuple_type": ("must be a list", "Write it between square brackets."),
    "too_short": ("must have at least {min_length} entry", "Add one."),
    "string_too_short": ("must not be empty", "Write it."),
    "string_too_long": ("is longer than {max_length} characters", "Shorten it."),
    "greater_than": ("must be more than {gt}", "Raise it."),
    "greater_than_equal": ("must be at least {ge}", "Raise it."),
    "less_than_equal": ("must be at most {le}", "Lower it."),
    "finite_number": ("must be a finite number", "Write a figure."),
    "decimal_max_places": ("has more than {decimal_places} decimals", "Round it."),
    "string_unicode": ("is not valid Unicode", "Remove the lone surrogate."),
}
"""The validator's kinds of fault, in words: the problem and the remedy."""


def _unknown(path: tuple[int | str, ...]) -> tuple[str, str]:
    key = str(path[-1])
    record = _record(path[:-1])
    known = list(record.model_fields) if record else []
    if re.search(r"(?i)key$|secret|password", key):
        return (
            "unknown key",
            "A contract holds no secret: put it in an environment variable, and that variable's name in key_env.",
        )
    if guess := _did_you_mean(key, known):
        return "unknown key", guess
    homes = [table for table, fields in _tables(Contract, ()) if key in fields]
    if homes:
        return "unknown key here", f"It belongs in [{homes[0]}]." if homes[
            0
        ] else "It belongs at the top of the file, before any [table]."
    everywhere = {name: table for table, fields in _tables(Contract, ()) for name in fields}
    if near := next(iter(difflib.get_close_matches(key, everywhere, n=1, cutoff=0.8)), None):
        return "unknown key", f"Did you mean {near}, in [{everywhere[near]}]?" if everywhere[
            near
        ] else f"Did you mean {near}, at the top?"
    return "unknown key", f"Known keys here: {', '.join(known)}." if known else "Remove it."


def _did_you_mean(written: Any, known: Sequence[str]) -> str:
    word = str(written).lower()
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6) or [name for name in known if name.startswith(word[:4])]
    return f"Did you mean {near[0]}?" if near else ""


def _record(path: tuple[int | str, ...]) -> type[Record] | None:
    """The table that `path` leads to."""
    found: type[Record] | None = Contract
    keyed = False
    for part in (name for name in path if isinstance(name, str)):
        if keyed:
            keyed = False
        elif found is None or part not in found.model_fields:
            return None
        else:
            found, keyed = _inner(found.model_fields[part].annotation)
    return found


def _inner(annotation: Any) -> tuple[type[Record] | None, bool]:
    """The table inside an annotation, and whether a name of the user's choice stands before it."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return annotation, False
    inner = [found for argument in get_args(annotation) if (found := _inner(argument))[0]]
    if not inner:
        return None, False
    return inner[0][0], inner[0][1] or get_origin(annotation) is Mapping


def _tables(record: type[Record], path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    yield ".".join(path), list(record.model_fields)
    for name, field in record.model_fields.items():
        inner, keyed = _inner(field.annotation)
        if inner:
            yield from _tables(inner, (*path, name, "NAME") if keyed else (*path, name))


def _value(detail: ErrorDetails, names: tuple[str, ...]) -> str | None:
    if detail["type"] == "missing":
        return None
    value = detail["input"]
    if isinstance(value, str) and names and _SECRET.search(names[-1]):
        return None
    if isinstance(value, Mapping):
        return "{…}" if value else "{}"
    written = _written(value)
    return written if len(written) <= 60 else f"{written[:57]}…"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n") + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, int | Decimal | dt.date) else repr(value)


def _bare(value: object) -> str:
    """The figure in the text `Decimal('0.5')`, which is how the validator hands its bounds over."""
    return str(value).removeprefix("Decimal('").removesuffix("')")


def _dotted(path: tuple[int | str, ...]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else _written(part)
            text += f".{name}" if text else name
    return text


def _lines(toml: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where each key of a TOML text stands, as far as one reading line by line can tell."""
    table: tuple[str, ...] = ()
    entries: Counter[tuple[str, ...]] = Counter()
    for number, line in enumerate(toml.splitlines(), start=1):
        if entry := re.match(r"\s*\[\[([^\[\]]+)\]\]", line):
            table = (*_keys(entry[1]), str(entries[_keys(entry[1])]))
            entries[table[:-1]] += 1
            yield table, number
        elif header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = _keys(header[1])
            yield table, number
        elif key := re.match(r"""\s*((?:[A-Za-z0-9_.-]|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=""", line):
            yield (*table, *_keys(key[1])), number


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""", dotted))
