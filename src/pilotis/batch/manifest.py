"""What a snapshot says of itself: `manifest.json`, written last, with a digest of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from pilotis.errors import Permanent, SetupError
from pilotis.ports.archive import LedgerSum, Table

FORMAT = 1
NAME = re.compile(r"\d{8}T\d{6}Z")
SNAPSHOTS, BLOBS = "snapshots/", "blobs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose snapshot it is: a contract's name and digest, and the env."""

    contract: str
    env: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of the archive, by its whole name there."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """The rows of one table."""

    table: Table
    rows: int
    file: File


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole snapshot. Everything it names is in the archive, except the `missing`."""

    name: str
    at: datetime
    """The moment the database is shown as of."""
    pilotis: str
    schema: str
    owner: Owner
    ledger: LedgerSum
    tables: tuple[TableFile, ...]
    indexes: Mapping[str, str]
    sequences: Mapping[str, int]
    blobs: File
    """A compressed text: SHA-256 and size of each document's bytes, a line for each."""
    blob_count: int
    blob_bytes: int
    missing: tuple[str, ...] = ()
    """Digests of bytes that were gone or damaged already when it was made."""

    @property
    def bytes(self) -> int:
        """Of its tables and of the blobs it refers to, which it may share with other snapshots."""
        return sum(table.file.size for table in self.tables) + self.blobs.size + self.blob_bytes

    def rows(self, table: str) -> int:
        return sum(each.rows for each in self.tables if each.table.name == table)


def name_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def time_of(name: str) -> datetime:
    return datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def blob_name(sha256: str) -> str:
    return f"{BLOBS}{sha256[:2]}/{sha256[2:]}"


def written(manifest: Manifest) -> bytes:
    fields = {"format": FORMAT} | asdict(manifest)
    return json.dumps(fields | {"digest": _digest(fields)}, indent=1, default=_plain, ensure_ascii=False).encode()


def read(name: str, text: bytes) -> Manifest:
    """Raises Permanent where it is damaged, SetupError where a newer version wrote it."""
    try:
        fields: dict[str, Any] = json.loads(text)
        if fields["format"] > FORMAT:
            raise SetupError(
                f"snapshot {name} has format {fields['format']}, this Pilotis knows formats up to {FORMAT}",
                remedy="use the Pilotis that wrote it, or a later one",
            )
        if fields.pop("digest") != _digest(fields):
            raise ValueError("its digest is another")
        return _manifest(fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Permanent(
            f"the manifest of snapshot {name} is damaged: {error}", remedy="use another snapshot: pilotis snapshot list"
        ) from error


def _manifest(fields: dict[str, Any]) -> Manifest:
    del fields["format"]
    ledger = fields["ledger"]
    return Manifest(
        **fields
        | {
            "at": datetime.fromisoformat(fields["at"]),
            "owner": Owner(**fields["owner"]),
            "ledger": LedgerSum(**ledger | {"cost_eur": Decimal(ledger["cost_eur"])}),
            "tables": tuple(
                TableFile(
                    table=Table(name=each["table"]["name"], columns=tuple(each["table"]["columns"])),
                    rows=each["rows"],
                    file=File(**each["file"]),
                )
                for each in fields["tables"]
            ),
            "blobs": File(**fields["blobs"]),
            "missing": tuple(fields["missing"]),
        }
    )


def _digest(fields: Mapping[str, Any]) -> str:
    return sha256(json.dumps(fields, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: object) -> str:
    return (
        value.isoformat() if isinstance(value, datetime) else format(value, "f") if isinstance(value, Decimal) else str(value)
    )
