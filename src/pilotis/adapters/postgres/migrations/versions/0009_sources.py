"""What each source of documents brought, and who synchronises it now."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0009"
down_revision = "0007"


def upgrade() -> None:
    run_sql_file(__file__)
