"""A document that takes the database longer than any other statement may."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pilotis.adapters import postgres
from pilotis.adapters.postgres import pool as pools
from pilotis.ports import NewDocument
from pilotis.rag.passage import Cut, Parsed


class Model:
    name, dimension, languages = "axes", 8, None


async def test_a_document_larger_than_a_statement_may_last_is_published(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database()
    await postgres.migrate(url)
    shorter = pools._SETTINGS.replace("60s", "200ms")
    assert shorter != pools._SETTINGS
    monkeypatch.setattr(pools, "_SETTINGS", shorter)
    pool = await postgres.open_pool(url)
    try:
        documents = postgres.PostgresDocuments(pool, await postgres.open_generation(pool, Model()))  # type: ignore[arg-type]
        async with pool.connection() as connection:
            for table in ("draft", "entry"):
                await connection.execute(
                    f"""
                    CREATE FUNCTION slow_{table}() RETURNS trigger LANGUAGE plpgsql AS
                        $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
                    CREATE TRIGGER slow AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION slow_{table}()
                    """.encode()
                )
        new = NewDocument(bu="bu", collection="c", name="long", sha256="0" * 64, size=1, media_type="text/plain")
        await documents.register(new)
        claim = await documents.claim(lease_s=60)
        assert claim is not None
        piece = Cut(id="one", ordinal=0, text="long", start=0, end=4, page=None, headings=(), language="en")
        await documents.stage(claim, Parsed(text="long", title=None), [piece])
        waiting = await documents.pending(10, lease_s=30)
        assert await documents.publish([(pending, np.eye(8, dtype=np.float32)[0]) for pending in waiting]) == [
            claim.document.id
        ]
    finally:
        await pool.close()
