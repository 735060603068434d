"""Postgres: documents, the index, the ledger and the keys."""

from pilotis.adapters.postgres.documents import PostgresDocuments
from pilotis.adapters.postgres.guards import PostgresGuards
from pilotis.adapters.postgres.keys import PostgresKeys
from pilotis.adapters.postgres.ledger import PostgresLedger
from pilotis.adapters.postgres.passages import PostgresPassages
from pilotis.adapters.postgres.pool import open_pool
from pilotis.adapters.postgres.schema import Generation, Schema, check_schema, migrate, open_generation, schema
from pilotis.adapters.postgres.sources import PostgresSourceItems

__all__ = [
    "Generation",
    "PostgresDocuments",
    "PostgresGuards",
    "PostgresKeys",
    "PostgresLedger",
    "PostgresPassages",
    "PostgresSourceItems",
    "Schema",
    "check_schema",
    "migrate",
    "open_generation",
    "open_pool",
    "schema",
]
