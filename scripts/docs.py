"""Write the tables of docs/contract.md from the contract's model, between `<!-- table: NAME -->` and `<!-- end -->`.

python scripts/docs.py            (or: make docs)
python scripts/docs.py --check    exits 1 where the page is not what the model says
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pilotis.contract.export import schema
from pilotis.contract.presets import MATRIX

PAGE = Path(__file__).resolve().parent.parent / "docs" / "contract.md"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n\n).*?(\n<!-- end -->)", re.DOTALL)
TABLES_OF_THEIR_OWN = frozenset(
    {
        "infra",
        "perf",
        "limits",
        "reading",
        "costs",
        "slo",
        "deploy",
        "envs",
        "estimate",
        "fx",
        "prices",
        "rates",
        "budgets",
        "planes",
        "snapshot",
        "secrets",
        "alerts",
        "sources",
    }
)
WORDS = {"Rate": "a rate", "Budget": "a budget", "Receiver": "a receiver"}
"""Values that have a table of their own below the one they are in."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="change nothing; exit 1 where something would change")
    written = PAGE.read_text(encoding="utf-8")
    fresh = filled(written)
    if arguments.parse_args().check:
        return int(fresh != written)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


def filled(page: str) -> str:
    """The page with every table as the model gives it. Raises KeyError for a table whose name the model does not know."""
    return TABLE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", page)


def table(name: str) -> str:
    if name == "presets":
        return _presets()
    document = json.loads(schema())
    record = document if name == "Contract" else _plain(document["$defs"][name])
    rows = [
        (f"`{key}`", _values(key, field), _default(field, required=key in record.get("required", ())), field["description"])
        for key, field in record["properties"].items()
        if name in {"EmbedderEndpoint", "SourceSection"} or key not in TABLES_OF_THEIR_OWN
    ]
    return _table(("key", "values", "default", "meaning"), rows)


def _presets() -> str:
    rows = []
    for key in ("llm", "top_k", "flags", "cache_ttl_s", "trace_sampling", "rps", "embedder"):
        values = (section.model_dump(exclude_none=True)[key] for section in MATRIX.values())
        rows.append((f"`{key}`", *(_shown(value["model"] if isinstance(value, dict) else value) for value in values)))
    return _table(("preset", *MATRIX), rows)


def _values(key: str, field: Mapping[str, Any]) -> str:
    field = _plain(field)
    if word := _word(key, field):
        return word
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_values(key, field['items'])}" if "enum" in field["items"] else "list"
    if field.get("type") in {"integer", "number"}:
        return _range(field)
    return {"boolean": "true or false", "date": "date"}.get(field.get("format", field.get("type", "")), "text")


def _word(key: str, field: Mapping[str, Any]) -> str:
    """What has a table of its own, in words; empty for anything else."""
    if key in {"llm", "compact", "fallback", "reranker", "embedder"}:
        return "a model"
    if named := field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None):
        return f"{_word(key, named) or 'text'} by name"
    return WORDS[field["$ref"].rpartition("/")[2]] if "$ref" in field else ""


def _range(field: Mapping[str, Any]) -> str:
    low, above, high = field.get("minimum"), field.get("exclusiveMinimum"), field.get("maximum")
    kind = "" if field["type"] == "integer" else "decimal, "
    start = f"above {_shown(above)}" if above is not None else _shown(low)
    return f"{kind}{start} to {_shown(high)}"


def _plain(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a field holds where it holds something, and an object where a plain string would do as well."""
    kinds = [kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"]
    return {**field, **kinds[-1]} if kinds else field


def _default(field: Mapping[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    value = field.get("default")
    return "" if value in (None, "") else f"`{_shown(value).replace(',', '') if isinstance(value, int) else _shown(value)}`"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(json.dumps(item) for item in value) + "]"
    return str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = tuple(head)
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
