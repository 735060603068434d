from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters import postgres
from pilotis.embedded import running

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("pg")
    with running(folder / "data") as addresses:
        yield addresses.database_url


@pytest.fixture
def new_database(server: str) -> Callable[[], str]:
    """Make an empty database, return its URL."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        head, _, query = server.partition("?")
        return f"{head.rpartition('/')[0]}/{name}?{query}"

    return make


@pytest.fixture
async def pool(new_database: Callable[[], str]) -> AsyncIterator[AsyncConnectionPool]:
    url = new_database()
    await postgres.migrate(url)
    opened = await postgres.open_pool(url, max_size=8)
    yield opened
    await opened.close()
