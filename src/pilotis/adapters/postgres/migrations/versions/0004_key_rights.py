"""What an API key may do, until when, for how much, and which key it replaces."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql_file(__file__)
