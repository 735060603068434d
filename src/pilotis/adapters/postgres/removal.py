"""A document's passages taken out of the index, with what they count in it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from pilotis.adapters.postgres.queries import statements

_SQL = statements("generations")


async def take_out_everywhere(connection: AsyncConnection, document_id: UUID, bu: str) -> None:
    """Remove a document's passages from every generation, and its terms from their counts."""
    found = await connection.execute(
        b"SELECT DISTINCT generation FROM passage WHERE document_id = %s ORDER BY 1", (document_id,)
    )
    for (generation,) in await found.fetchall():
        await take_out(connection, {"id": document_id, "bu": bu, "generation": generation})


async def take_out(connection: AsyncConnection, fields: dict[str, Any]) -> None:
    """Of one generation. `fields`: id, bu, generation."""
    for statement in ("count_terms", "forget_terms", "count_passages", "take_out", "forget_corpus"):
        await connection.execute(_SQL[statement], fields | {"sign": -1})
