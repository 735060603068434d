"""`pilotis eval propose`: golden questions drafted from the documents, for a person to accept."""

from __future__ import annotations

import typer


def propose(ctx: typer.Context) -> None:
    """Draft golden questions."""
