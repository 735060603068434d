"""Migrations: Alembic orders and records them; what they do is plain SQL, in a file of the same name."""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_sql_file(migration: str) -> None:
    """Run the SQL beside the migration file `migration`, as it stands (no parameters, no placeholders)."""
    sql = Path(migration).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(sql)
