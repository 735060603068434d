"""`pilotis sync` as a user runs it, over real servers, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pilotis import wiring
from pilotis.embedded import Addresses

if TYPE_CHECKING:
    from integration.sources.conftest import Site

TEXT = "# Report {0}\n\nThis is number{0}, about bridges and tolls. It has a sentence of its own{0}."


class Machine:
    """A contract, the folder beside it, and servers."""

    def __init__(self, folder: Path, environ: dict[str, str], addresses: Addresses) -> None:
        self.folder, self.environ, self.addresses = folder, environ, addresses
        self.contract = folder / "pilotis.toml"
        self.handbook = folder / "handbook"
        self.handbook.mkdir()

    def says(self, sources: str) -> None:
        self.contract.write_text(f'[envs.dev]\nllm = "extractive"\n{sources}')

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pilotis", "--contract", str(self.contract), *args],
            env=self.environ | environ, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *args: str, code: int = 0, **environ: str) -> str:
        process = self.start(*args, **environ)
        out, err = process.communicate(timeout=100)
        assert process.returncode == code, (out, err)
        assert "Traceback" not in err
        return out if "--json" in args else out + err

    def sync(self, *args: str, code: int = 0, environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
        """The reports by source."""
        told = json.loads(self.run("sync", "--json", *args, code=code, **(environ or {})))
        assert told["not_indexed"] == []
        return {report["source"]: report for report in told["sources"]}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.addresses.database_url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def write(self, *numbers: int) -> None:
        for n in numbers:
            (self.handbook / f"{n}.md").write_text(TEXT.format(n))
            os.utime(self.handbook / f"{n}.md", (1_700_000_000, 1_700_000_000))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    given = wiring.settings(env="dev", data=folder / "data", folder=tmp_path_factory.mktemp("no-contract"))
    plan, env = wiring.load_plan(given)
    with wiring.stack(given, plan, env) as addresses:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTIS_", "AWS_"))}
        told = wiring.child_environ(given, plan, env, addresses)
        yield Machine(folder, environ | {name: value for name, value in told.items() if name.startswith("PILOTIS_")}, addresses)


def did(report: dict[str, Any]) -> dict[str, int]:
    fates = ("new", "changed", "moved", "deleted", "unchanged", "failed", "held", "left")
    return {fate: report[fate] for fate in fates if report[fate]}


def test_a_folder_a_bucket_and_a_site(machine: Machine, site: Site, s3: Any, s3_url: str) -> None:
    machine.write(*range(4))
    for n in range(3):
        s3.put_object(Bucket="docs", Key=f"hb/{n}.md", Body=f"# Stored {n}\n\nBucket number{n}.".encode())
        site.put(f"/{n}", f"<html><body><h1>Page {n}</h1><p>Site number{n}.</p></body></html>", headers={"etag": f'"{n}"'})
    site.sitemap("/0", "/1", "/2", "/gone")
    machine.says(f"""
[sources.handbook]
kind = "folder"
path = "handbook"
collection = "folder"
metadata = {{ team = "sales" }}
every = "6h"
[sources.bucket]
kind = "s3"
bucket = "docs"
prefix = "hb/"
endpoint_url = "{s3_url}"
collection = "bucket"
[sources.site]
kind = "web"
url = "{site.url}/sitemap.xml"
private = true
collection = "site"
""")
    secrets = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    first = machine.sync(code=1, environ=secrets)
    assert [did(first[name]) for name in ("handbook", "bucket", "site")] == [{"new": 4}, {"new": 3}, {"new": 3, "failed": 1}]
    assert first["site"]["names"]["failed"][0]["remark"] == "the site has no such page (404)"
    states = machine.rows("SELECT collection, state, count(*) FROM document GROUP BY 1, 2 ORDER BY 1")
    assert states == [("bucket", "indexed", 3), ("folder", "indexed", 4), ("site", "indexed", 3)]
    assert machine.rows("SELECT DISTINCT media_type FROM document WHERE collection = 'site'") == [("text/html",)]
    ((found,),) = machine.rows(
        "SELECT name FROM document JOIN passage ON document_id = document.id WHERE text LIKE '%Site number1%'"
    )
    assert found == f"{site.url}/1"
    spent = machine.rows("SELECT count(*) FROM ledger")
    (machine.handbook / "sub").mkdir()
    (machine.handbook / "0.md").rename(machine.handbook / "sub" / "zero.md")
    (machine.handbook / "1.md").unlink()
    s3.copy_object(Bucket="docs", Key="hb/moved.md", CopySource="docs/hb/0.md")
    s3.delete_object(Bucket="docs", Key="hb/0.md")
    site.sitemap("/0", "/1", "/2")
    second = machine.sync(environ=secrets)
    assert did(second["handbook"]) == {"moved": 1, "deleted": 1, "unchanged": 2}
    assert did(second["bucket"]) == {"moved": 1, "unchanged": 2}
    assert did(second["site"]) == {"unchanged": 3}
    assert second["site"]["bytes"] == 0, "304 thrice"
    assert machine.rows("SELECT count(*) FROM ledger") == spent, "nothing is embedded again"
    assert machine.rows("SELECT count(*) FROM passage") == [(9,)]

    standing = {each["source"]: each for each in json.loads(machine.run("sync", "--status", "--json"))["sources"]}
    assert {name: each["indexed"] for name, each in standing.items()} == {"handbook": 3, "bucket": 3, "site": 3}
    assert standing["handbook"]["every_s"] == 21_600
    assert standing["handbook"]["due_at"] > standing["handbook"]["finished_at"]
    assert standing["handbook"]["report"]["moved"] == 1


def test_what_a_person_is_told(machine: Machine) -> None:
    machine.says("")
    assert "[sources.handbook]" in machine.run("sync", code=2)
    machine.says('[sources.other]\nkind = "folder"\npath = "other"\nbu = "told"\ncollection = "told"')
    assert "name one of: other" in machine.run("sync", "othr", code=2)
    assert "the folder cannot be read" in machine.run("sync", code=1)
    other = machine.folder / "other"
    other.mkdir()
    for n in range(3):
        (other / f"{n}.md").write_text(TEXT.format(n))
    would = machine.run("sync", "--dry-run")
    assert "nothing was changed" in would
    assert would.count("new") == 4
    assert machine.rows("SELECT count(*) FROM document WHERE bu = 'told'") == [(0,)]
    machine.run("sync")
    for path in other.iterdir():
        path.unlink()
    told = machine.run("sync", code=1)
    assert "other: 3 documents are NOT deleted: the source lists nothing any more, and brought 3 before" in told
    assert "pilotis sync other --allow-deletes" in told
    assert machine.rows("SELECT count(*) FROM document WHERE bu = 'told'") == [(3,)]
    assert "3 documents not deleted" in machine.run("sync", "--status")


DUE = """
import asyncio
from pilotis import wiring
from pilotis.adapters import kreuzberg, sources
from pilotis.batch.sync import sync_due
from pilotis.embedded import Addresses

async def main():
    given = wiring.settings()
    plan, env = wiring.load_plan(given)
    addresses = Addresses(database_url=given.database_url, redis_url=given.redis_url)
    async with wiring.open_deps(given, plan, env, addresses=addresses, asks=False) as deps:
        opened = sources.opener(given.contract)
        for _ in range(3):
            for report in await sync_due(plan, env, deps, open_source=opened, guess=kreuzberg.media_type):
                print(report.source, report.counts["new"], report.error)

asyncio.run(main())
"""


def test_of_several_processes_that_look_at_the_schedule_one_synchronises(machine: Machine) -> None:
    due = machine.folder / "due"
    due.mkdir()
    for n in range(5):
        (due / f"{n}.md").write_text(TEXT.format(n))
    machine.says('[sources.due]\nkind = "folder"\npath = "due"\nbu = "due"\nevery = "1h"\n')
    environ = machine.environ | {"PILOTIS_CONTRACT": str(machine.contract)}
    looking = [
        subprocess.Popen([sys.executable, "-c", DUE], env=environ, cwd=machine.folder, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [process.communicate(timeout=60)[0] for process in looking]
    assert [process.returncode for process in looking] == [0, 0, 0]
    assert "".join(told) == "due 5 None\n"
    assert machine.rows("SELECT count(*) FROM document WHERE bu = 'due'") == [(5,)]


def test_killed_in_the_middle_it_doubles_and_loses_nothing(machine: Machine) -> None:
    bu, after = "killed", 30
    many = machine.folder / bu
    many.mkdir()
    for n in range(80):
        (many / f"{n}.md").write_text(TEXT.format(n))
    machine.says(f'[sources.{bu}]\nkind = "folder"\npath = "{bu}"\nbu = "{bu}"')
    process = machine.start("sync", "--json")
    deadline = time.monotonic() + 60
    while machine.rows(f"SELECT count(*) FROM source_item WHERE source = '{bu}'")[0][0] < after:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (there,) = machine.rows(f"SELECT count(*) FROM document WHERE bu = '{bu}'")[0]
    assert there < 80, "it was too quick to be killed half-way"
    assert machine.rows(f"SELECT lease_until > now() FROM source_run WHERE source = '{bu}'") == [(True,)]
    # Its lease runs out after twelve seconds; there is no need to wait for that here.
    with psycopg.connect(machine.addresses.database_url) as connection:
        connection.execute("UPDATE source_run SET lease_until = now() WHERE source = %s", (bu,))
    (many / "0.md").unlink()  # perhaps registered, perhaps not yet noted
    report = machine.sync()[bu]
    assert report["new"] + report["unchanged"] == 79
    assert (report["failed"], report["error"], report["held"]) == (0, None, 0)
    rows = f"FROM document WHERE bu = '{bu}'"
    assert machine.rows(f"SELECT count(*), count(DISTINCT name), count(DISTINCT sha256) {rows}") == [(79, 79, 79)]
    assert machine.rows(f"SELECT DISTINCT state {rows}") == [("indexed",)]
    notes = f"FROM source_item JOIN document ON document.id = document_id WHERE source = '{bu}'"
    assert machine.rows(f"SELECT count(*), bool_and(brought) {notes}") == [(79, True)]
    assert machine.rows(f"SELECT count(*) FROM source_item WHERE source = '{bu}'") == [(79,)]
    again = machine.sync()[bu]
    assert did(again) == {"unchanged": 79}
