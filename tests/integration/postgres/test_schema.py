from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters import postgres
from pilotis.adapters.postgres import migrations
from pilotis.errors import SetupError, Transient
from pilotis.ports import Generation


class Model:
    """Enough of an embedder for what the schema asks."""

    languages = None

    def __init__(self, name: str, dimension: int) -> None:
        self.name, self.dimension = name, dimension


async def test_migrating_twice_and_twice_at_once_changes_nothing(new_database: Callable[[], str]) -> None:
    url = new_database()
    before = await postgres.migrate(url, check=True)
    assert before.current is None
    assert before.pending[-1] == before.head
    assert (await postgres.schema(url)).current is None
    await asyncio.gather(*(postgres.migrate(url) for _ in range(3)))
    after = await postgres.migrate(url)
    assert (after.current, after.pending) == (before.head, ())


async def test_what_is_being_embedded_keeps_its_title_over_the_upgrade(new_database: Callable[[], str]) -> None:
    url = new_database()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["url"] = "postgresql+psycopg://" + url.split("://", 1)[1]
    await asyncio.to_thread(command.upgrade, config, "0001")
    with psycopg.connect(url) as connection:
        for state in ("embedding", "indexed"):
            connection.execute(
                "INSERT INTO document (id, bu, collection, name, sha256, size, media_type, metadata, state, title, language) "
                "VALUES (gen_random_uuid(), 'north', 'default', %s, '0', 1, 'text/plain', '{}', %s, 'Tolls', 'en')",
                (state, state),
            )
    await postgres.migrate(url)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT name, title, staged, deaths FROM document ORDER BY name").fetchall()
    staged = {"title": "Tolls", "language": "en", "pages": None}
    assert rows == [("embedding", "Tolls", staged, 0), ("indexed", "Tolls", None, 0)]


async def test_starting_on_an_empty_database_says_what_to_run(new_database: Callable[[], str]) -> None:
    pool = await postgres.open_pool(new_database())
    with pytest.raises(SetupError, match="no schema yet") as raised:
        await postgres.check_schema(pool)
    await pool.close()
    assert raised.value.remedy == "run: pilotis migrate"


async def test_a_schema_from_the_future_is_refused(pool: AsyncConnectionPool, new_database: Callable[[], str]) -> None:
    url = new_database()
    await postgres.migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'; UPDATE schema_floor SET oldest = '9999'")
    with pytest.raises(SetupError, match="9999, newer"):
        await postgres.migrate(url)


async def test_another_embedding_model_or_dimension_is_refused(pool: AsyncConnectionPool) -> None:
    first = await postgres.open_generation(pool, Model("mini", 8))  # type: ignore[arg-type]
    assert first == await postgres.open_generation(pool, Model("mini", 8))  # type: ignore[arg-type]
    assert first == Generation(id=first.id, model="mini", dimension=8)
    with pytest.raises(SetupError, match=r"mini \(8 dimensions\), the contract asks for mini \(16\)"):
        await postgres.open_generation(pool, Model("mini", 16))  # type: ignore[arg-type]


async def test_a_server_that_is_away_is_a_passing_fault(tmp_path: object) -> None:
    with pytest.raises(Transient, match=r"away|in time"):
        await postgres.schema(f"postgresql://pilotis@/pilotis?host={tmp_path}")
