"""Business units take turns in the queues, which can be paused; a failed document says at which step."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql_file(__file__)
