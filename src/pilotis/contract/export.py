"""A Contract becomes a file again, and its format a JSON Schema for editors."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import tomlkit
from pydantic import BaseModel

from pilotis.contract.budgets import Budgets, Rates
from pilotis.contract.fields import Record
from pilotis.contract.model import Contract
from pilotis.contract.presets import MATRIX

if TYPE_CHECKING:
    from tomlkit.container import Container
    from tomlkit.items import AoT, Item, Table


def to_json(contract: Contract) -> str:
    """What the contract says, and nothing it leaves out: loading it gives an equal contract. Numbers keep every digit."""
    return plain_json(contract.model_dump(exclude_unset=True, exclude_none=True)) + "\n"


def to_toml(contract: Contract) -> str:
    """A complete file to edit: what the contract says, every key it leaves out as a comment with its default, each explained.

    Loading it gives an equal contract.
    """
    said = contract.model_dump(exclude_unset=True, exclude_none=True)
    document = tomlkit.document()
    _fill(document, contract, said)
    return tomlkit.dumps(document)


def schema() -> str:
    """The JSON Schema (draft 2020-12) of the file, for editors that complete and check as one types."""
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Contract.model_json_schema()
    return plain_json(_numeric(described)) + "\n"


def plain_json(value: Any, indent: str = "") -> str:
    """JSON text; decimals become numbers with all their digits, which `json.dumps` would send through floats."""
    deeper = indent + "  "
    if isinstance(value, Mapping):
        rows = [f"{json.dumps(str(key), ensure_ascii=False)}: {plain_json(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(deeper + row for row in rows) + f"\n{indent}}}" if rows else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain_json(item, deeper) for item in value) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value.isoformat() if isinstance(value, dt.date) else value, ensure_ascii=False)


def _fill(into: Container | Table, record: BaseModel, said: Mapping[str, Any]) -> None:
    """Keys first, tables after: in TOML whatever follows a table's header belongs to it."""
    fields = type(record).model_fields
    for name, field in fields.items():
        if not _is_table(getattr(record, name)):
            _key(into, name, said.get(name), getattr(record, name), field.description or "")
    for name, field in fields.items():
        value = getattr(record, name)
        if isinstance(value, Mapping) and not value:
            continue
        if name == "envs":
            into.append(name, _envs(value, said.get(name)))
        elif name in {"sources", "receivers"}:
            into.append(name, _named(value, said.get(name, {})))
        elif name == "prices":
            into.append(name, _prices(said.get(name, {})))
        elif isinstance(value, Record) and _is_table(value):
            table = tomlkit.table()
            table.add(tomlkit.comment(field.description or ""))
            _fill(table, value, said.get(name, {}))
            into.append(name, table)


def _envs(envs: Mapping[str, Record], said: Mapping[str, Any] | None) -> Table:
    tables = tomlkit.table(is_super_table=True)
    for name, section in envs.items():
        table = tomlkit.table()
        own = (said or {}).get(name, {})
        preset = MATRIX.get(name, MATRIX["dev"])
        for key, field in type(section).model_fields.items():
            if key not in own or not isinstance(getattr(section, key), Rates | Budgets):
                _key(table, key, own.get(key), preset.model_dump(exclude_none=True).get(key), field.description or "")
        for key in ("rates", "budgets"):
            if key in own:
                table.append(key, _inside(getattr(section, key), own[key]))
        tables.append(name, table)
    return tables


def _named(sections: Mapping[str, Record], said: Mapping[str, Any]) -> Table:
    tables = tomlkit.table(is_super_table=True)
    for name, section in sections.items():
        tables.append(name, _inside(section, said[name]))
    return tables


def _prices(said: Mapping[str, Any]) -> Table:
    tables = tomlkit.table(is_super_table=True)
    for model, price in said.items():
        tables.append(model, _table(price) if isinstance(price, Mapping) else _entries(price))
    return tables


def _inside(record: BaseModel, said: Mapping[str, Any]) -> Table:
    """A table whose own tables stand on one line each."""
    table = tomlkit.table()
    for key, field in type(record).model_fields.items():
        _key(table, key, said.get(key), None, field.description or "")
    return table


def _key(into: Container | Table, name: str, said: Any, default: Any, description: str) -> None:
    if said is not None:
        item = _item(said)
        item.comment(description)
        into.append(name, item)
    elif default is not None:
        into.add(tomlkit.comment(f"{name} = {_item(_dumped(default)).as_string()}  # {description}"))
    else:
        into.add(tomlkit.comment(f"{name} =  # {description} Not set."))


def _entries(rows: Sequence[Mapping[str, Any]]) -> AoT:
    entries = tomlkit.aot()
    for row in rows:
        entries.append(_table(row))
    return entries


def _table(values: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for key, value in values.items():
        table.append(key, _item(value))
    return table


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, Record) and isinstance(value.model_dump(), dict))


def _dumped(value: Any) -> Any:
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value


def _item(value: Any) -> Item:
    if isinstance(value, Decimal):
        return tomlkit.value(format(value, "f"))
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for key, inner in value.items():
            table.append(key, _item(inner))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        for inner in value:
            array.append(_item(inner))
        return array
    return cast("Item", tomlkit.item(value))


def _numeric(value: Any) -> Any:
    """Defaults of decimals are numbers: pydantic writes them as text."""
    if isinstance(value, list):
        return [_numeric(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _numeric(item) for key, item in value.items()}
    if inner.get("type") == "number" and isinstance(inner.get("default"), str):
        inner["default"] = Decimal(inner["default"])
    return inner
