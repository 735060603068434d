"""A document's whole life, and `pilotis ingest`, on the real stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilotis.batch.ingest import forget
from pilotis.errors import NotFound
from pilotis.ports import Query

if TYPE_CHECKING:
    from integration.batch.conftest import Town


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    for n in range(6):
        (folder / f"{n}.md").write_text(f"# Bridge {n}\n\nThe bridge number{n} crosses the river at mile {n}.\n")
    (folder / "deep" / "page.html").write_text("<html><title>Tolls</title><body><h1>Tolls</h1><p>Sundays are free.</p></body>")
    (folder / "deep" / "empty.txt").touch()
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    (folder / "new\nline.md").write_text("a name with a newline")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.md").write_text("not a document")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.md").symlink_to(folder / "nowhere.md")
    return folder


class Cli:
    """`pilotis` on the town's data folder."""

    def __init__(self, town: Town) -> None:
        self._environ = town.environ

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from pilotis.cli import main; main()", *map(str, arguments)]
        return subprocess.Popen(command, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ingest(self, *arguments: str | Path) -> tuple[int, dict[str, Any], str]:
        process = self.start("ingest", "--json", *arguments)
        out, err = process.communicate(timeout=90)
        return process.returncode, json.loads(out) if out else {}, err


@pytest.fixture
def cli(town: Town) -> Cli:
    return Cli(town)


@pytest.fixture(autouse=True)
def _nothing_stays(town: Town) -> Iterator[None]:
    yield
    for table in ("document", "passage", "draft", "entry", "lexeme", "corpus"):
        town.rows(f"DELETE FROM {table} RETURNING 1")


async def test_ingest_a_folder_twice_then_change_and_delete(town: Town, cli: Cli, docs: Path) -> None:
    code, first, errors = cli.ingest("--bu", "north", "--meta", "team=roads", docs)
    assert code == 1, errors
    assert {key: first[key] for key in ("new", "changed", "unchanged", "indexed", "skipped")} == {
        "new": 8,  # the broken PDF is stored, and fails when it is parsed
        "changed": 0,
        "unchanged": 0,
        "indexed": 7,
        "skipped": 1,
    }
    reasons = {fault["name"]: fault["reason"] for fault in first["failed"]}
    assert reasons.keys() == {"broken.pdf", "deep/empty.txt", "gone.md", "new\nline.md"}
    assert "is empty (0 bytes)" in reasons["deep/empty.txt"]
    assert "U+000A" in reasons["new\nline.md"]
    assert "No such file" in reasons["gone.md"]
    assert str(docs) not in json.dumps(reasons)
    assert first["passages"] >= 7

    before = town.rows("SELECT id, name, attempts, indexed_at FROM document WHERE state = 'indexed' ORDER BY name")
    (docs / "broken.pdf").unlink()
    (docs / "new\nline.md").unlink()
    (docs / "gone.md").unlink()
    (docs / "deep" / "empty.txt").unlink()
    code, second, _ = cli.ingest("--bu", "north", "--meta", "team=roads", docs)
    assert (code, second["unchanged"], second["indexed"], second["failed"]) == (0, 7, 0, [])
    assert town.rows("SELECT id, name, attempts, indexed_at FROM document WHERE state = 'indexed' ORDER BY name") == before

    (docs / "3.md").write_text("# Bridge 3\n\nThe bridge number3 has been replaced by a tunnel.\n")
    code, third, _ = cli.ingest("--bu", "north", "--meta", "team=roads", str(docs / "[0-9].md"))
    assert (code, third["changed"], third["unchanged"], third["indexed"]) == (0, 1, 5, 1)
    async with town.deps() as deps:
        query = Query(bu="north", text="bridge number3 mile tunnel", language="en", vector=None, top_k=50)
        of_3 = [hit.text for hit in await deps.passages.search(query) if hit.document == "3.md"]
        assert of_3 == ["The bridge number3 has been replaced by a tunnel."]
        for document in await deps.documents.find("north"):
            await forget(document.id, deps, bu="north")
            with pytest.raises(NotFound):
                await forget(document.id, deps, bu="north")
    tables = ("document", "passage", "draft", "entry", "lexeme", "corpus", "blob")
    assert {table: town.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables} == dict.fromkeys(tables, 0)
    assert [path for path in (town.data / "blobs").rglob("*") if path.is_file()] == []


def test_ctrl_c_then_again_goes_on(town: Town, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(60):
        (folder / f"{n}.md").write_text(f"# Note {n}\n\n" + f"The note number{n} speaks of its own river{n}. " * 15)
    process = cli.start("ingest", folder, "--bu", "stopped")
    _until(lambda: town.rows("SELECT count(*) FROM document WHERE bu = 'stopped' AND state = 'indexed'")[0][0] >= 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "run the same command to go on" in errors
    stored = town.rows("SELECT count(*) FROM document WHERE bu = 'stopped'")[0][0]
    assert 0 < stored <= 60
    code, summary, _ = cli.ingest(folder, "--bu", "stopped")
    assert code == 0
    assert summary["new"] + summary["unchanged"] == 60
    assert summary["new"] == 60 - stored
    assert town.rows("SELECT state, count(*) FROM document WHERE bu = 'stopped' GROUP BY state") == [("indexed", 60)]


def test_no_worker_survives_its_killed_parent(town: Town, cli: Cli, docs: Path) -> None:
    process = cli.start("ingest", docs, "--bu", "orphan")
    _until(lambda: len(_workers(town)) == 2)
    process.kill()
    process.communicate()
    _until(lambda: _workers(town) == [])


def test_a_path_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    code, _, errors = cli.ingest(tmp_path / "nothing.md")
    assert code == 2
    assert "there is nothing at" in errors


def test_a_folder_without_permission(cli: Cli, docs: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder")
    (docs / "deep").chmod(0)
    code, summary, _ = cli.ingest(docs, "--include", "*.html", "--include", "1.md")
    assert (code, summary["indexed"]) == (1, 1)
    assert [(fault["name"], fault["reason"]) for fault in summary["failed"]] == [(str(docs / "deep"), "Permission denied")]


def _workers(town: Town) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdecimal() or b"pilotis.tasks" not in (entry / "cmdline").read_bytes():
                continue
            if f"PILOTIS_DATA={town.data}\0".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _until(holds: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
