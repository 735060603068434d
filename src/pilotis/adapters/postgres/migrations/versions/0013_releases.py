"""Releases, the rollouts that bring them, who agreed, the trail of it all, and what each release did."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_sql_file(__file__)
