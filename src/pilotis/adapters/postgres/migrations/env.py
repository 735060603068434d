"""Run by Alembic: one connection, one advisory lock, one transaction for all pending migrations."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

_LOCK = 7_265_021_903
"""Any constant: two programs that migrate at once take turns."""

engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
with engine.begin() as connection:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
