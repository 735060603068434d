"""Run by Alembic: one connection, one advisory lock, one transaction for all pending migrations."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

_LOCK = 7_265_021_903
"""Any constant: two programs that migrate at once take turns."""


def run(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:  # in a transaction that its owner commits
    run(given)
else:
    with create_engine(context.config.attributes["url"], poolclass=NullPool).begin() as own:
        run(own)
