"""Postgres: documents, the index, the ledger and the keys."""

from pilotis.adapters.postgres.backlog import PostgresBacklog
from pilotis.adapters.postgres.documents import PostgresDocuments
from pilotis.adapters.postgres.dump import PostgresDump
from pilotis.adapters.postgres.evaluations import PostgresEvaluations
from pilotis.adapters.postgres.export import PostgresExports
from pilotis.adapters.postgres.feedback import PostgresFeedback
from pilotis.adapters.postgres.generations import PostgresGenerations
from pilotis.adapters.postgres.guards import PostgresGuards
from pilotis.adapters.postgres.inventory import PostgresInventory
from pilotis.adapters.postgres.keys import PostgresKeys
from pilotis.adapters.postgres.ledger import PostgresLedger
from pilotis.adapters.postgres.passages import PostgresPassages
from pilotis.adapters.postgres.pool import open_pool
from pilotis.adapters.postgres.releases import PostgresReleases
from pilotis.adapters.postgres.schema import (
    Schema,
    active_generation,
    check_schema,
    migrate,
    open_database,
    open_generation,
    schema,
)
from pilotis.adapters.postgres.sources import PostgresSourceItems
from pilotis.adapters.postgres.splits import PostgresMeasures, PostgresSplits

__all__ = [
    "PostgresBacklog",
    "PostgresDocuments",
    "PostgresDump",
    "PostgresEvaluations",
    "PostgresExports",
    "PostgresFeedback",
    "PostgresGenerations",
    "PostgresGuards",
    "PostgresInventory",
    "PostgresKeys",
    "PostgresLedger",
    "PostgresMeasures",
    "PostgresPassages",
    "PostgresReleases",
    "PostgresSourceItems",
    "PostgresSplits",
    "Schema",
    "active_generation",
    "check_schema",
    "migrate",
    "open_database",
    "open_generation",
    "open_pool",
    "schema",
]
