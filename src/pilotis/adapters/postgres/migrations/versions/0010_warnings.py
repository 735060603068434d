"""What a document's reader left out stays with the document."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_sql_file(__file__)
