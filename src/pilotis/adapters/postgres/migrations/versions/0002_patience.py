"""What is kept aside until new content is visible, and how often a document took its worker with it."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql_file(__file__)
