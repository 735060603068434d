"""Runs of golden sets with their questions, and votes on answers."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0007"
down_revision = "0005"


def upgrade() -> None:
    run_sql_file(__file__)
