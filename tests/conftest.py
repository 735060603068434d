"""What tests of real servers share. A test that cannot run here is skipped with its reason, which the run's summary repeats."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pilotis.embedded import Addresses

# A shell that runs this in the background leaves SIGINT ignored, and so would every program started here: Ctrl-C is tested too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A submission is judged by the same examples each time; new ones are looked for where a person is there to read them.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


_databases = itertools.count(1)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """Postgres and Redis of a data folder of their own, for the whole session."""
    from pilotis.embedded import running

    with running(tmp_path_factory.mktemp("stack") / "data") as addresses:
        yield addresses


@pytest.fixture(scope="session")
def new_database(stack: Addresses) -> Iterator[Callable[[], str]]:
    """Make an empty database on `stack`; return its URL. All are dropped before the server stops, which else writes them to disk."""
    import psycopg
    from psycopg import sql

    made: list[str] = []

    def run(statement: str, name: str) -> None:
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def make() -> str:
        made.append(f"shared_{next(_databases)}")
        run("CREATE DATABASE {}", made[-1])
        head, _, query = stack.database_url.partition("?")
        return f"{head.rpartition('/')[0]}/{made[-1]}?{query}"

    yield make
    for name in made:
        run("DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(scope="module")
def database(new_database: Callable[[], str]) -> str:
    """The URL of a migrated database that this test module has to itself."""
    from pilotis.adapters import postgres

    url = new_database()
    asyncio.run(postgres.migrate(url))
    return url


@pytest.fixture(scope="session")
def data_sets() -> Path:
    """The folder of judged sets and raw documents, named by PILOTIS_TEST_DATA."""
    named = os.environ.get("PILOTIS_TEST_DATA")
    if not named:
        pytest.skip("PILOTIS_TEST_DATA names no folder of data sets")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"PILOTIS_TEST_DATA names {named}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that speaks S3's protocol."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, and the environment in which boto3 finds it."""
    import boto3

    told = {"ENDPOINT_URL": s3, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "eu-west-3"}
    for name, value in told.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = f"test-{next(_databases)}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    return f"s3://{name}/some/prefix"
