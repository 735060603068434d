"""HCL, the language of Terraform, from plain values: only what a rendered file needs, laid out as `terraform fmt` lays it out.

Values are str, bool, int, Decimal, None, lists, tuples and mappings, and what a text cannot be: `Ref`, `Text`, `Call`, `For` and `Why`.
A str is always meant literally: what would interpolate in it is escaped.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Value = Any
WIDTH = 110
"""Of a line beyond which a list takes a line for each of its elements, and a comment goes on in the next."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_INDENT = "  "
_EOT = "EOT"


@dataclass(frozen=True, slots=True)
class Ref:
    """An expression as it is, on one line: `module.vpc.vpc_id`, `length(var.arns) > 0`."""

    expression: str

    def __post_init__(self) -> None:
        if not self.expression.strip() or "\n" in self.expression:
            raise ValueError(f"no expression of one line: {self.expression!r}")


@dataclass(frozen=True, slots=True)
class Text:
    """A text with values in it: `Text("https://", Ref("local.host"), "/")` is "https://${local.host}/"."""

    parts: tuple[str | Ref, ...]

    def __init__(self, *parts: str | Ref) -> None:
        object.__setattr__(self, "parts", parts)


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument that may be laid out over several lines, as jsonencode."""

    function: str
    argument: Value


@dataclass(frozen=True, slots=True)
class For:
    """An object made of a collection: `{ for each : key => value }`."""

    each: str
    key: Ref
    value: Value


@dataclass(frozen=True, slots=True)
class Why:
    """A value with a comment above it. In a block's body `key: Why(...)` alone; the reason is wrapped."""

    value: Value
    reason: str


@dataclass(frozen=True, slots=True)
class Nested:
    """A block within a block, where the language wants a block and no value. A list of them is the block several times."""

    body: Mapping[str, Value]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a file: `Block("resource", ("aws_kms_key", "this"), {...})`; the comment stands above it, notes at the head of its body.

    A body of several mappings has them one after the other, apart.
    """

    kind: str
    labels: tuple[str, ...]
    body: Mapping[str, Value] | Sequence[Mapping[str, Value]]
    comment: str = ""
    notes: tuple[str, ...] = ()


def document(blocks: Sequence[Block], *, banner: str) -> str:
    """A whole file. Raises TypeError for a value that HCL does not have, ValueError for an argument's name that is none."""
    return banner + "\n".join(_block(block) for block in blocks)


def expression(value: Value) -> str:
    """A value as it stands to the right of `=` of an argument at the left margin."""
    return "\n".join(_lines(value))


def _block(block: Block) -> str:
    lines = _comment(block.comment)
    head = " ".join([block.kind, *(_quoted(label) for label in block.labels)])
    notes = [f"#{note}" if note.startswith("checkov:") else f"# {note}" for note in block.notes]
    parts = [block.body] if isinstance(block.body, Mapping) else block.body
    body = _apart([group for group in (notes, *(_body(part) for part in parts)) if group])
    if not body:
        return "\n".join([*lines, f"{head} {{}}", ""])
    return "\n".join([*lines, f"{head} {{", *_indented(body), "}", ""])


def _body(body: Mapping[str, Value]) -> list[str]:
    """Arguments first come first; what takes several lines, or has a reason, stands apart."""
    groups: list[list[str]] = []
    run: list[tuple[str, list[str]]] = []

    def close() -> None:
        if run:
            groups.append(_aligned(run))
            run.clear()

    for name, found in body.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"no name of an argument: {name!r}")
        reason, value = (found.reason, found.value) if isinstance(found, Why) else ("", found)
        nested = _blocks(name, value)
        lines = nested or _lines(value)
        if nested or reason or len(lines) > 1:
            close()
            groups.append([*_comment(reason), *(nested or [f"{name} = {lines[0]}", *lines[1:]])])
        else:
            run.append((name, lines))
    close()
    return _apart(groups)


def _blocks(name: str, value: Value) -> list[str]:
    several = [value] if isinstance(value, Nested) else value
    if not isinstance(several, list) or not several or not all(isinstance(one, Nested) for one in several):
        return []
    heads = [f"{name} {_quoted(one.label)}" if one.label else name for one in several]
    return _apart([[f"{head} {{", *_indented(_body(one.body)), "}"] for head, one in zip(heads, several, strict=True)])


def _apart(groups: Sequence[list[str]]) -> list[str]:
    lines: list[str] = []
    for group in groups:
        lines += ["", *group] if lines else group
    return lines


def _lines(value: Value) -> list[str]:
    """The lines of an expression, without the indent of where it stands."""
    if isinstance(value, (Call, For, Mapping, list, tuple, str)):
        return _spread(value)
    return [_scalar(value)]


def _spread(value: Call | For | Mapping[Any, Value] | Sequence[Value]) -> list[str]:
    match value:
        case Call():
            inner = _closed(value.argument)
            lines = [f"{value.function}({inner[0]}", *inner[1:]]
            return [*lines[:-1], f"{lines[-1]})"]
        case For():
            inner = _lines(value.value)
            return ["{", *_indented([f"for {value.each} : {value.key.expression} => {inner[0]}", *inner[1:]]), "}"]
        case str():
            return _string(value)
        case Mapping():
            return _mapping(value)
        case _:
            return _list(value)


def _closed(value: Value) -> list[str]:
    """What a comma or a bracket may follow at once: the end of a heredoc takes a line of its own."""
    return [_quoted(value)] if isinstance(value, str) else _lines(value)


def _scalar(value: Value) -> str:
    match value:
        case Ref():
            return value.expression
        case Text():
            return _template(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal() if value.is_finite():
            return format(value.normalize(), "f")
        case _:
            raise TypeError(f"HCL has no value for {value!r}")


def _mapping(value: Mapping[Any, Value]) -> list[str]:
    """Over several lines always. Runs of entries have their signs of equality under each other; brackets and comments end a run, a
    heredoc does not.
    """
    if not value:
        return ["{}"]
    lines: list[str] = []
    run: list[tuple[str, list[str]]] = []
    for key, found in value.items():
        reason, inner = (found.reason, found.value) if isinstance(found, Why) else ("", found)
        written = _lines(inner)
        opens = len(written) > 1 and not isinstance(inner, str)
        if reason or opens:
            lines += _aligned(run)
            run.clear()
            lines += _comment(reason)
        if opens:
            lines += [f"{_key(key)} = {written[0]}", *written[1:]]
        else:
            run.append((_key(key), written))
    return ["{", *_indented([*lines, *_aligned(run)]), "}"]


def _key(key: Value) -> str:
    if isinstance(key, Ref):
        return f"({key.expression})"
    if not isinstance(key, str):
        raise TypeError(f"no key of an object: {key!r}")
    return key if _NAME.fullmatch(key) else _quoted(key)


def _list(value: Sequence[Value]) -> list[str]:
    if not value:
        return ["[]"]
    elements = [_closed(element) for element in value]
    joined = ", ".join(lines[0] for lines in elements)
    if all(len(lines) == 1 for lines in elements) and len(joined) <= WIDTH:
        return [f"[{joined}]"]
    return ["[", *_indented([line for lines in elements for line in (*lines[:-1], f"{lines[-1]},")]), "]"]


def _string(value: str) -> list[str]:
    """Several whole lines as a heredoc. A heredoc loses the indent that all its lines share, and no line of it may be its end."""
    lines = value[:-1].split("\n")
    plain = re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f]*", value) and all(lines) and _EOT not in (line.strip() for line in lines)
    if value.count("\n") > 1 and value.endswith("\n") and plain and not lines[0].startswith(" "):
        return [f"<<-{_EOT}", *_indented([_uninterpolated(line) for line in lines]), _EOT]
    return [_quoted(value)]


def _template(value: Text) -> str:
    return '"' + "".join(_escaped(part) if isinstance(part, str) else f"${{{part.expression}}}" for part in value.parts) + '"'


def _quoted(value: str) -> str:
    return f'"{_escaped(value)}"'


def _escaped(value: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    text = "".join(named.get(sign) or (sign if sign.isprintable() else _code(sign)) for sign in value)
    return _uninterpolated(text)


def _code(sign: str) -> str:
    point = ord(sign)
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _uninterpolated(value: str) -> str:
    return value.replace("${", "$${").replace("%{", "%%{")


def _aligned(run: Sequence[tuple[str, list[str]]]) -> list[str]:
    width = max((len(name) for name, _ in run), default=0)
    return [line for name, lines in run for line in (f"{name:<{width}} = {lines[0]}", *lines[1:])]


def _indented(lines: Sequence[str]) -> Iterator[str]:
    return (f"{_INDENT}{line}" if line else line for line in lines)


def _comment(reason: str) -> list[str]:
    return [f"# {line}" for paragraph in reason.splitlines() for line in textwrap.wrap(paragraph, WIDTH)]
