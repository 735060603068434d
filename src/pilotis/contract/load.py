"""A file, TOML or JSON, becomes a Contract; every fault of it is found at once and says where it is and what to do."""

from __future__ import annotations

import json
import os
import re
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from pilotis.contract.faults import Fault, explain
from pilotis.contract.model import Contract
from pilotis.contract.presets import default
from pilotis.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NAMES", "ContractFaults", "default", "find", "load", "parse"]

NAMES = ("pilotis.toml", "pilotis.json")
"""What a contract is called where nobody names one."""

MAX_BYTES = 1 << 20


class ContractFaults(ContractError):
    """The contract is wrong in one or more places."""

    def __init__(self, file: Path | str, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        if len(faults) == 1:
            super().__init__(f"{file}{faults[0].where}: {faults[0].text}", remedy=faults[0].remedy)
            return
        lines = [f"  {fault.where.lstrip(':') or '-':>5}  {fault.text}\n         → {fault.remedy}" for fault in faults]
        super().__init__(
            f"{file} has {len(faults)} faults:\n" + "\n".join(lines),
            remedy="Correct these lines; `pilotis contract schema` prints every key with its meaning.",
        )


def find(cwd: Path, explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The contract's path: the one named, else PILOTIS_CONTRACT, else the one in `cwd`, else None.

    Raises ContractError where a folder holds both pilotis.toml and pilotis.json. Whether a named file is there is for `load` to say.
    """
    named = explicit or (Path(environ["PILOTIS_CONTRACT"]) if environ.get("PILOTIS_CONTRACT") else None)
    if named is None:
        return _inside(cwd)
    path = cwd / named.expanduser()
    return (_inside(path) or path) if path.is_dir() else path


def load(path: Path) -> Contract:
    """Read a contract. Raises ContractError with all its faults.

    A folder stands for the contract in it. JSON and TOML say the same; the file's name tells which it is.
    """
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where a folder above may not be entered)
        inside = _inside(path)
        if inside is None:
            raise ContractError(f"{path} holds no contract.", remedy=f"Name the file, or put {' or '.join(NAMES)} there.")
        path = inside
    return parse(_read(path), path)


def parse(text: str, path: Path) -> Contract:
    """The contract in `text`; the suffix of `path` tells whether it is TOML or JSON. Raises ContractError with all its faults."""
    if path.suffix.lower() not in {".toml", ".json"}:
        raise ContractError(
            f"{path}: a contract's name ends in .toml or .json.", remedy=f"Rename it, for instance to {NAMES[0]}."
        )
    if not text.strip():
        raise ContractError(
            f"{path} is empty.", remedy=f"`pilotis contract export --toml > {NAMES[0]}` writes a complete one to start from."
        )
    data = _toml(text, path) if path.suffix.lower() == ".toml" else _json(text, path)
    if not isinstance(data, dict):
        kind = {list: "a list", str: "a string", bool: "true or false"}.get(type(data), "a number or null")
        raise ContractError(
            f"{path} holds {kind}; a contract is a table of keys.", remedy='Begin with { "envs": { "dev": {} } }.'
        )
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        raise ContractFaults(path, explain(error, text if path.suffix.lower() == ".toml" else "")) from error


def _inside(folder: Path) -> Path | None:
    try:
        found = [folder / name for name in NAMES if (folder / name).exists()]
    except OSError as error:
        raise ContractError(
            f"{folder} cannot be searched: {error.strerror}.", remedy="Name the contract with --contract FILE."
        ) from error
    if len(found) > 1:
        raise ContractError(
            f"There are two contracts here: {found[0]} and {found[1]}.",
            remedy="Keep one of them, or say which with --contract FILE.",
        )
    return found[0] if found else None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ContractError(
            f"There is no contract at {path}.", remedy="Correct the path, or leave it out to use the built-in contract."
        ) from error
    except OSError as error:
        raise ContractError(
            f"{path} cannot be read: {error.strerror}.", remedy="Make it a file that this user may read."
        ) from error
    if len(content) > MAX_BYTES:
        raise ContractError(f"{path} is larger than 1 MiB; no contract is.", remedy="Name the contract, not another file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ContractError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8.", remedy="Save the file as UTF-8."
        ) from error


def _toml(text: str, path: Path) -> Any:
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
        line = int(at[1]) if at and at[1] else text.count("\n") + 1
        column = f":{at[2]}" if at and at[2] else ""
        problem = str(error).split(" (at ", maxsplit=1)[0]
        _syntax(f"{path}:{line}{column}: not valid TOML: {problem}.", _toml_remedy(text, line), error)
    except (ValueError, RecursionError) as error:
        _syntax(f"{path}: not valid TOML: {error}.", "Correct this value.", error)


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        remedy = "Correct the text there, or check the comma and quotes just before."
        if path.suffix.lower() == ".json" and re.match(r"\s*(\[[\w.]+\]|[\w]+\s*=|#)", text):
            remedy = f"This looks like TOML: name it {path.with_suffix('.toml').name}."
        _syntax(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}.", remedy, error)
    except (ValueError, RecursionError) as error:
        _syntax(f"{path}: not valid JSON: {error}.", "Correct this value.", error)


def _syntax(message: str, remedy: str, error: Exception) -> NoReturn:
    raise ContractError(message, remedy=remedy) from error


def _toml_remedy(text: str, line: int) -> str:
    if text.lstrip().startswith("{"):
        return "This looks like JSON: give it a name that ends in .json."
    written = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    if comma := re.search(r"=\s*(\d+),(\d+)", written):
        return f"Write decimals with a point: {comma[1]}.{comma[2]}."
    if re.search(r"=\s*(True|False|yes|no|on|off)\b", written):
        return "Write true or false."
    if re.search(r"=\s*[A-Za-z]", written):
        return "Put text between double quotes."
    return "Correct the text there."


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text} is not a number") from error


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that can be paid")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f'the key "{twice}" is there twice in the same table')
    return dict(pairs)
