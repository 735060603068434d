"""Rows as a Parquet file, through pyarrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotis.errors import SetupError
from pilotis.ports.export import Kind, Row

_TEXT = "id document_id document bu collection name title state error media_type sha256 language text".split()
_WHOLE = "size pages passages ordinal page start end".split()
_COLUMNS: dict[Kind, str] = {
    "documents": (
        "id bu collection name title state error media_type sha256 size pages passages language metadata received_at indexed_at"
    ),
    "passages": "id document_id document bu collection title ordinal headings page start end language text",
}


class ParquetSheet:
    """A group of rows for each `write`. JSON objects become texts. Raises SetupError where pyarrow is missing."""

    def __init__(self, path: Path, kind: Kind, *, vectors: bool) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise SetupError("Parquet needs pyarrow, which is missing", remedy="pip install 'pilotis[parquet]'") from error
        types = (
            dict.fromkeys(_TEXT, pa.string())
            | dict.fromkeys(_WHOLE, pa.int64())
            | dict.fromkeys(("received_at", "indexed_at"), pa.timestamp("us", tz="UTC"))
            | {"metadata": pa.string(), "headings": pa.list_(pa.string()), "vector": pa.list_(pa.float32())}
        )
        names = [*_COLUMNS[kind].split(), *(["vector"] if vectors and kind == "passages" else [])]
        self._schema = pa.schema([(name, types[name]) for name in names])
        self._batch = pa.RecordBatch
        self._writer: Any = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        self._writer.write_batch(self._batch.from_pylist(plain, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _plain(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
