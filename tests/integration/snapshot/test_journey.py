"""As a person does it: ingest, take a snapshot of a running service, lose everything, and have it back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pilotis import wiring
from pilotis.adapters.redis import RedisMoney
from pilotis.cli import run
from pilotis.derive.budget import spans
from pilotis.embedded import running
from pilotis.ports import CostEvent, Hold

QUESTION = "Which granite bridge is number4?"


@dataclass
class Town:
    """A data folder, an archive, and the command line."""

    folder: Path
    environ: dict[str, str]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self, *arguments: str, data: str = "data") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pilotis", "--data", str(self.folder / data), "--json", *arguments]
        return subprocess.Popen(
            command, env=self.environ, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, code: int = 0, data: str = "data") -> Any:
        """The JSON it prints, or what it says where it fails. In this process, which has Python's imports behind it."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = run(["--data", str(self.folder / data), "--json", *arguments])
        assert ended == code, err.getvalue()
        return json.loads(out.getvalue()) if code == 0 else out.getvalue() + err.getvalue()

    def found(self, data: str = "data") -> list[Any]:
        return [(hit["passage_id"], hit["score"], hit["text"]) for hit in self.run("search", QUESTION, data=data)["hits"]]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with running(self.data) as addresses, psycopg.connect(addresses.database_url) as connection:
            return connection.execute(statement.encode()).fetchall()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("journey")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PILOTIS_")}
    made = Town(folder, environ)
    (folder / "docs").mkdir()
    for n in range(6):
        (folder / "docs" / f"{n}.md").write_text(f"# Bridge {n}\n\nThe granite bridge number{n} has no tolls on a Sunday.\n")
    # The servers stay up between the commands, which then take a second each.
    with running(made.data) as addresses:
        made.run("ingest", "docs")
        with psycopg.connect(addresses.database_url) as connection:
            connection.execute(
                "INSERT INTO ledger (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, priced) "
                "SELECT 'e' || n, date_trunc('hour', now()), 'dev', 'online', 'default', 'answer', 's', 'm', '{}', 0.1234567, 'b', true"
                " FROM generate_series(1, 7) n"
            )
            connection.execute(
                "INSERT INTO tally VALUES ('dev', date_trunc('hour', now()), 'online', 'default', '', 7 * 123457)"
            )
        yield made


def _kill_servers(data: Path) -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (folder / "cmdline").read_bytes().decode(errors="replace")
            if str(data) in told and ("postgres" in told or "redis" in told or "guardian" in told):
                os.kill(int(folder.name), signal.SIGKILL)


def _settle(town: Town, event: str, cost_eur: Decimal) -> None:
    """A cost that is in Redis, and not in the ledger yet."""
    given = wiring.settings(data=town.data, folder=town.folder)
    plan, env = wiring.load_plan(given)
    now = datetime.now(UTC)
    told: Any = {"id": event, "at": now, "plane": "online", "bu": "default", "key": None}
    cost = CostEvent(
        **told,
        env=env.name,
        kind="answer",
        subject=event,
        model="m",
        usage={},
        cost_eur=cost_eur,
        price_book="b",
        fx=None,
        priced=True,
    )

    async def settle(redis_url: str) -> None:
        money = RedisMoney(redis_url, env=env, namespace=wiring.namespace(plan, env), instance="client")
        try:
            await money.admission.settle(Hold(**told, micro=0, spans=spans(now, env.timezone)), cost)
        finally:
            await money.close()

    with running(town.data) as addresses:
        asyncio.run(settle(addresses.redis_url))


def test_a_snapshot_outlives_the_data_folder(town: Town) -> None:
    before, events = town.found(), town.rows("SELECT id, cost_eur, micro FROM ledger WHERE id LIKE 'e%' ORDER BY id")
    made = town.run("snapshot", "create", "--at", "archive")
    assert (made["rows"]["document"], made["files"], made["missing"]) == (6, 6, [])
    assert made["ledger"]["micro_eur"] == 7 * 123_457
    _settle(town, "late", Decimal("0.000321"))  # told to a client, and still on its way to the ledger
    again = town.run("snapshot", "create", "--at", "archive")
    assert again["ledger"]["micro_eur"] == 7 * 123_457 + 321
    assert [each["name"] for each in town.run("snapshot", "list", "--at", "archive")["snapshots"]] == [
        made["name"],
        again["name"],
    ]
    assert town.run("snapshot", "verify", made["name"], "--at", "archive")["faults"] == []

    _kill_servers(town.data)
    shutil.rmtree(town.data / "blobs")
    for _ in range(50):  # the servers' children end a moment later, and write until then
        shutil.rmtree(town.data, ignore_errors=True)
        if not town.data.exists():
            break
        time.sleep(0.1)

    with running(town.data):
        done = town.run("snapshot", "restore", made["name"], "--at", "archive")
        assert (done["files_brought"], done["rows_loaded"]) == (6, sum(made["rows"].values()))
        assert town.found() == before
        assert town.rows("SELECT id, cost_eur, micro FROM ledger WHERE id LIKE 'e%' ORDER BY id") == events
        deep = town.run("doctor", "--deep")["deep"]
        assert [each["check"] for each in deep if each["state"] != "ok"] == []
        assert {"counters_miscounted", "cached_without_document", "blobs_missing"} < {each["check"] for each in deep}

        # Over what is there: not without a word, and not beside others.
        town.run("ingest", "--bu", "south", "docs/1.md")
        victim = next((town.data / "blobs").glob("[0-9a-f][0-9a-f]/*"))
        victim.write_bytes(b"rotten")
        refused = town.run("snapshot", "restore", "--at", "archive", code=1)
        assert "7 documents" in refused
        assert "--yes" in refused
        deep = json.loads(town.run("doctor", "--deep", code=1))["deep"]
        assert [(each["check"], each["count"]) for each in deep if each["state"] == "error"] == [("blobs_damaged", 1)]
        with running(town.data) as addresses, psycopg.connect(addresses.database_url):
            assert "other connections" in town.run("snapshot", "restore", "--at", "archive", "--yes", code=1)
        assert town.run("snapshot", "restore", "--at", "archive", "--yes")["files_brought"] == 1
        assert town.found() == before
        assert town.rows("SELECT count(*) FROM document") == [(6,)]


def test_a_drill_proves_it(town: Town) -> None:
    with running(town.data):
        town.run("snapshot", "create", "--at", "drilled")
    done = town.run("snapshot", "drill", "--at", "drilled", "--searches", "4", "--scratch", str(town.folder))
    assert (done["faults"], done["searches"]) == ([], 4)
    assert not [path for path in town.folder.iterdir() if path.name.startswith("pilotis-drill")]
    path = next((town.folder / "drilled" / "blobs").glob("*/*"))
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in town.run("snapshot", "drill", "--at", "drilled", code=1)


def test_killed_while_it_is_taken_or_restored(town: Town) -> None:
    with running(town.data) as addresses, psycopg.connect(addresses.database_url.replace("/pilotis?", "/postgres?")) as watch:
        watch.autocommit = True

        def is_open() -> bool:
            found = watch.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pilotis snapshot'"
            ).fetchone()
            return found is not None and found[0] > 0

        taken, before = town.run("snapshot", "create", "--at", "killed"), town.found()
        for arguments in (("snapshot", "create", "--at", "killed"), ("snapshot", "restore", "--at", "killed", "--yes")):
            process = town.start(*arguments)
            while not is_open():
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.1)
            process.kill()
            process.communicate()
            while is_open():
                time.sleep(0.01)
        assert town.found() == before
        assert town.rows("SELECT count(*) FROM document") == [(6,)]
        listed = town.run("snapshot", "list", "--at", "killed")["snapshots"]
        assert taken["name"] == listed[0]["name"]
        for each in listed:
            assert town.run("snapshot", "verify", each["name"], "--at", "killed")["faults"] == []


def test_into_a_bucket_and_back(town: Town, bucket: str) -> None:
    (town.folder / "pilotis.toml").write_text(
        f'name = "rag"\n[envs.dev]\nllm = "extractive"\n[envs.dev.snapshot]\nplace = "{bucket}"\n'
    )
    try:
        with running(town.data):
            made, before = town.run("snapshot", "create"), town.found()
        assert town.run("snapshot", "verify")["faults"] == []
        assert town.run("snapshot", "prune", "--keep-days", "1")["kept"] == [made["name"]]
        with running(town.folder / "elsewhere"):
            assert town.run("snapshot", "restore", data="elsewhere")["rows_loaded"] == sum(made["rows"].values())
            assert town.found("elsewhere") == before
    finally:
        (town.folder / "pilotis.toml").unlink()


def test_a_place_must_be_named(town: Town) -> None:
    assert "--at" in town.run("snapshot", "list", code=1)
    assert "no place for snapshots" in town.run("snapshot", "list", "--at", "ftp://x", code=2)
    assert "no snapshot" in town.run("snapshot", "verify", "--at", "empty", code=1)


def test_passages_leave_as_lines_and_as_parquet(town: Town) -> None:
    with running(town.data):
        _leave(town)


def _leave(town: Town) -> None:
    from pyarrow import parquet

    assert town.run("export", "passages", "--vectors", "-o", "out.jsonl")["rows"] == 6
    lines = [json.loads(line) for line in (town.folder / "out.jsonl").read_text().splitlines()]
    town.run("export", "passages", "--vectors", "--format", "parquet", "-o", "out.parquet")
    table = parquet.read_table(town.folder / "out.parquet").to_pylist()
    for row in (*table, *lines):
        row["vector"] = [round(number, 6) for number in row["vector"]]
    assert table == lines
    assert (len(table[0]["vector"]), table[0]["headings"], table[0]["document"][-3:]) == (384, [table[0]["title"]], ".md")
    assert town.run("export", "documents", "--bu", "nobody", "-o", "none.jsonl")["rows"] == 0
    town.run("export", "documents", "--all", "--format", "parquet", "-o", "documents.parquet")
    documents = parquet.read_table(town.folder / "documents.parquet").to_pylist()
    assert [each["name"] for each in documents] == [f"{n}.md" for n in range(6)]
    assert documents[0]["indexed_at"].tzinfo is not None
    assert "standard output" in town.run("export", "documents", "-o", "-", code=1)
    assert "cannot be written" in town.run("export", "documents", "-o", "nowhere/x.jsonl", code=2)
    assert not list(town.folder.glob(".*jsonl*"))
