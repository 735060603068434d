"""The guardrail's levels and moves, and documents whose cached answers have to go."""

from pilotis.adapters.postgres.migrations import run_sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql_file(__file__)
