"""Several index generations side by side, each with passages of its own."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_sql_file(__file__)
