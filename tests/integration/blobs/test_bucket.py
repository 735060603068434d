"""Original files in a bucket: machines that share no folder work on the same documents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import boto3
import pytest

from pilotis import wiring
from pilotis.adapters import postgres
from pilotis.batch.ingest import forget, receive, sweep
from pilotis.embedded import Addresses
from pilotis.errors import SetupError
from pilotis.ports import Deps

TEXTS = {"tolls.md": "# Tolls\n\nCrossing is free on Sundays.\n", "bridge.md": "# Bridge\n\nThe bridge is made of granite.\n"}


class Machine:
    """One of several, with nothing of its own but a scratch folder."""

    def __init__(self, data: Path, contract: Path) -> None:
        self.given = wiring.settings(env="dev", data=data, contract=contract)
        self.plan, self.env = wiring.load_plan(self.given)
        assert self.given.database_url
        assert self.given.redis_url
        self.addresses = Addresses(database_url=self.given.database_url, redis_url=self.given.redis_url)

    @contextlib.asynccontextmanager
    async def deps(self) -> AsyncIterator[Deps]:
        async with wiring.open_deps(self.given, self.plan, self.env, addresses=self.addresses) as deps:
            yield deps

    def pilotis(self, *arguments: str) -> subprocess.Popen[str]:
        environ = wiring.child_environ(self.given, self.plan, self.env, self.addresses)
        return subprocess.Popen([sys.executable, "-m", *arguments], env=environ, text=True, stdout=subprocess.PIPE)


@pytest.fixture
def machines(
    stack: Addresses, new_database: Callable[[], str], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Machine, Machine]:
    url = new_database()
    asyncio.run(postgres.migrate(url))
    (tmp_path / "pilotis.toml").write_text(
        f'name = "b{os.urandom(4).hex()}"\n[infra]\nblobs = "s3"\n[costs]\ntarget_eur_per_1k = 16.5\nguardrail_eur_per_req = 0.02\n[envs.dev]\nllm = "extractive"\n'
    )
    told = {
        "DATABASE_URL": url,
        "REDIS_URL": stack.redis_url,
        "BLOBS": bucket,
        "BLOBS_ENDPOINT": os.environ["AWS_ENDPOINT_URL"],
    }
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for name, value in told.items():
        monkeypatch.setenv(f"PILOTIS_{name}", value)
    here, there = (Machine(tmp_path / name, tmp_path / "pilotis.toml") for name in ("here", "there"))
    return here, there


@contextlib.contextmanager
def workers(machine: Machine) -> Iterator[None]:
    started = [machine.pilotis("pilotis.tasks", queue) for queue in ("ingest", "embed")]
    try:
        yield
    finally:
        for worker in started:
            worker.send_signal(signal.SIGTERM)
        for worker in started:
            worker.communicate(timeout=30)


def keys(bucket: str) -> set[str]:
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=os.environ["PILOTIS_BLOBS_ENDPOINT"])
    return {each["Key"].removeprefix(f"{prefix}/") for each in client.list_objects_v2(Bucket=name).get("Contents", ())}


async def receive_text(deps: Deps, machine: Machine, name: str, text: str, folder: Path) -> str:
    path = folder / "content"
    path.write_text(text)
    document, _ = await receive(
        path, machine.env, deps, bu="north", collection="default", name=name, media_type="text/markdown", metadata={}
    )
    return document.id


async def run(machine: Machine, *arguments: str, fails: bool = False) -> None:
    process = machine.pilotis("pilotis", *arguments)
    out, _ = await asyncio.to_thread(process.communicate, timeout=90)
    assert process.returncode == int(fails), out


async def test_what_one_machine_receives_another_reads(machines: tuple[Machine, Machine], bucket: str, tmp_path: Path) -> None:
    here, there = machines
    with workers(there):
        async with here.deps() as deps:
            ids = [await receive_text(deps, here, name, text, tmp_path) for name, text in TEXTS.items()]
            async with asyncio.timeout(60):
                while (await deps.documents.counts("north", ids)).get("indexed", 0) < len(ids):  # noqa: ASYNC110 - another process works
                    await asyncio.sleep(0.1)
    stored = keys(bucket)
    assert len(stored) == len(TEXTS), "each settled, under its digest"
    assert not (here.given.data or tmp_path).joinpath("blobs").exists()

    backup = str(tmp_path / "backup")
    await run(here, "doctor", "--deep")
    await run(here, "snapshot", "create", "--at", backup)
    async with here.deps() as deps:
        for key in stored:
            await deps.blobs.delete(key.replace("/", ""))
    await run(here, "doctor", "--deep", fails=True)
    await run(here, "snapshot", "restore", "--at", backup, "--yes")
    assert keys(bucket) == stored
    await run(here, "doctor", "--deep")
    async with here.deps() as deps:
        for document in ids:
            await forget(document, deps, bu="north")
    assert keys(bucket) == set()


async def test_bytes_of_an_upload_that_died_are_swept(
    machines: tuple[Machine, Machine], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = machines
    (tmp_path / "orphan").write_text("never registered")
    async with here.deps() as deps:
        await deps.blobs.put(tmp_path / "orphan")
        await sweep(deps)
        assert len(keys(bucket)) == 2, "an upload may be about to register it"
        monkeypatch.setattr("pilotis.batch.ingest.FORGOTTEN_S", 0)
        await sweep(deps)
    assert keys(bucket) == set()


def test_a_bucket_that_the_contract_asks_for_is_not_replaced_by_a_folder(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PILOTIS_BLOBS")
    here = wiring.settings(env="dev", contract=machines[0].given.contract)
    with pytest.raises(SetupError, match=r'infra\.blobs is "s3" and PILOTIS_BLOBS is not set'):
        wiring.open_blobs(here, machines[0].plan, machines[0].env)
