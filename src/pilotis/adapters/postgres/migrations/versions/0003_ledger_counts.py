"""Who caused a cost, at which step, in which process, and whether the budgets know of it."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql_file(__file__)
