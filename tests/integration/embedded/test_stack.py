"""Real servers under real programs, as root and as a normal user: started, shared, killed in every place, and left."""

from __future__ import annotations

import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

import pilotis
from pilotis.embedded import status
from pilotis.embedded.account import Account, reachable
from pilotis.embedded.folder import Folder
from pilotis.embedded.processes import serving

PROGRAM = """
import json, sys
from pathlib import Path
from pilotis.embedded import Stack
from pilotis.errors import SetupError
stack = Stack(Path(sys.argv[1]))
try:
    addresses = stack.acquire(timeout_s=30)
except SetupError as error:
    print(json.dumps({"error": error.message, "remedy": error.remedy}), flush=True)
    sys.exit(2)
print(json.dumps({"database_url": addresses.database_url, "redis_url": addresses.redis_url}), flush=True)
for line in sys.stdin:
    again = stack.acquire(timeout_s=30)
    print(json.dumps({"database_url": again.database_url}), flush=True)
stack.release()
"""


class User:
    """A program in a process of its own that uses a data folder until it is told to leave, or killed."""

    def __init__(self, data: Path, account: Account | None) -> None:
        become: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        self.process = subprocess.Popen(
            [_python(account), "-c", PROGRAM, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": os.pathsep.join(_packages()), "PATH": "/usr/bin:/bin"},
            cwd="/",
            **become,
        )

    def said(self, within_s: float = 45.0) -> dict[str, str]:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], within_s)[0], "the program said nothing"
        told: dict[str, str] = json.loads(self.process.stdout.readline())
        return told

    def acquire_again(self) -> dict[str, str]:
        assert self.process.stdin
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.said()

    def leave(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(45)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Machine:
    """A folder for data folders, and the account to use them with."""

    def __init__(self, place: Path, account: Account | None) -> None:
        self.place = place
        self.account = account
        self._users: list[User] = []

    def user(self, data: Path) -> User:
        self._users.append(User(data, self.account))
        return self._users[-1]

    def make(self, name: str) -> Path:
        made = self.place / name
        made.mkdir(parents=True)
        if self.account:
            os.chown(made, self.account.uid, self.account.gid)
        return made

    def clean(self) -> None:
        for user in self._users:
            user.kill()
            for pipe in (user.process.stdin, user.process.stdout):
                with suppress(BrokenPipeError):
                    if pipe:
                        pipe.close()
        until(lambda: not any(servers_of(version.parent) for version in self.place.rglob("VERSION")), 20)
        shutil.rmtree(self.place, ignore_errors=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Programs run as whoever runs the tests. Under root, the folder lies under one that only root may enter: the hardest case."""
    made = Machine(_place(), None)
    yield made
    made.clean()


@pytest.fixture(params=["root", "normal user"])
def either(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Programs run as root, and as a normal user."""
    account = None
    if request.param == "root":
        if os.geteuid() != 0:
            pytest.skip("this test runs as root, and you are not")
    elif os.geteuid() == 0:
        entry = pwd.getpwnam("nobody")
        account = Account(entry.pw_uid, entry.pw_gid)
        _python(account)
    made = Machine(_place(), account)
    if account:
        os.chown(made.place, account.uid, account.gid)
    yield made
    made.clean()


def test_an_empty_folder_becomes_a_database_that_lasts_and_nothing_stays_behind(either: Machine) -> None:
    data = either.make("data") / "env"
    first = either.user(data)
    told = first.said()
    with psycopg.connect(told["database_url"]) as line:
        line.execute("CREATE EXTENSION vector")
        asked = "SELECT current_setting('fsync'), current_setting('data_checksums'), current_setting('server_encoding'), lower('ÉTÉ')"
        assert line.execute(asked).fetchone() == ("on", "on", "UTF8", "été")
    write_row(told["database_url"], "kept")
    with redis.Redis.from_url(told["redis_url"]) as cache:
        cache.set("key", "kept")
        assert cache.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-lru"}
    assert first.leave() == 0
    assert servers_of(data) == []
    assert status(data).state == "stopped"

    told = either.user(data).said()
    assert rows(told["database_url"]) == ["kept"]
    with redis.Redis.from_url(told["redis_url"]) as cache:
        assert cache.get("key") == b"kept"


def test_servers_live_until_the_last_of_two_programs_leaves(machine: Machine) -> None:
    data = machine.make("data")
    first, second = machine.user(data), machine.user(data)
    told = first.said()
    assert second.said() == told
    before = sorted(servers_of(data))
    assert set(status(data).users) == {first.process.pid, second.process.pid}
    assert first.leave() == 0
    write_row(told["database_url"], "still here")
    assert set(before) & set(servers_of(data))
    assert status(data).users == (second.process.pid,)
    assert second.leave() == 0
    assert servers_of(data) == []


def test_no_server_listens_on_the_network_or_to_other_users(either: Machine) -> None:
    data = either.make("data")
    told = either.user(data).said()
    sockets = Path(told["redis_url"].removeprefix("unix://")).parent
    assert sockets.stat().st_mode & 0o777 == 0o700
    with psycopg.connect(told["database_url"]) as line:
        assert line.execute("SHOW listen_addresses").fetchone() == ("",)
    with redis.Redis.from_url(told["redis_url"]) as cache:
        assert cache.config_get("port") == {"port": "0"}
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in servers_of(data)}
    assert 0 not in owners, "a server runs as root"


def test_two_envs_side_by_side_share_nothing(machine: Machine) -> None:
    one, two = machine.make("one"), machine.make("two")
    users = machine.user(one), machine.user(two)
    first, second = [user.said() for user in users]
    write_row(first["database_url"], "one")
    write_row(second["database_url"], "two")
    assert rows(first["database_url"]) == ["one"]
    assert rows(second["database_url"]) == ["two"]
    assert not set(servers_of(one)) & set(servers_of(two))


def test_killing_every_user_ends_the_servers_cleanly(either: Machine) -> None:
    data = either.make("data")
    users = [either.user(data), either.user(data)]
    told, _ = [user.said() for user in users]
    write_row(told["database_url"], "kept")
    users[0].kill()
    time.sleep(1)
    assert rows(told["database_url"]) == ["kept"], "the other one still uses them"
    users[1].kill()
    until(lambda: not servers_of(data), 10)
    until(lambda: status(data).state == "stopped", 5)
    assert "database system is shut down" in (data / "logs" / "postgres.log").read_text()
    assert rows(either.user(data).said()["database_url"]) == ["kept"]


def test_killing_the_guardian_leaves_no_orphan_and_loses_nothing(either: Machine) -> None:
    data = either.make("data")
    user = either.user(data)
    told = user.said()
    write_row(told["database_url"], "kept")
    kill_server(data, "guardian")
    again = user.acquire_again()  # at once, while the old servers are still ending
    assert rows(again["database_url"]) == ["kept"]
    kill_server(data, "guardian")
    until(lambda: not servers_of(data), 10)
    assert rows(either.user(data).said()["database_url"]) == ["kept"]


@pytest.mark.parametrize("which", ["postgres", "redis"])
def test_a_killed_server_comes_back_by_itself_with_its_data(machine: Machine, which: str) -> None:
    data = machine.make("data")
    told = machine.user(data).said()
    write_row(told["database_url"], "kept")
    with redis.Redis.from_url(told["redis_url"]) as cache:
        cache.set("key", "kept")
        time.sleep(1.5)  # appendfsync everysec
    killed = kill_server(data, which)
    until(lambda: status(data).state == "ready" and getattr(status(data), which).pid not in {None, killed}, 15)
    assert rows(told["database_url"]) == ["kept"]
    with redis.Redis.from_url(told["redis_url"]) as cache:
        assert cache.get("key") == b"kept"


def test_a_server_that_is_killed_while_it_starts_is_started_again(machine: Machine) -> None:
    data = machine.make("data")
    user = machine.user(data)
    # Redis comes first, and waits while the folder of Postgres is laid out.
    until(lambda: bool(serving(data / "redis", "redis-server", "")), 20)
    (pid,) = serving(data / "redis", "redis-server", "")
    os.kill(pid, signal.SIGKILL)
    assert "error" not in user.said()
    assert status(data).state == "ready"
    assert "redis fell" in (data / "logs" / "guardian.log").read_text()


def test_a_server_that_keeps_falling_is_given_up_with_its_last_words(machine: Machine) -> None:
    data = machine.make("data")
    user = machine.user(data)
    user.said()
    (data / "postgres" / "global" / "pg_control").write_bytes(b"garbage")
    kill_server(data, "postgres")
    until(lambda: status(data).state == "failed", 20)
    assert "postgres fell 5 times" in status(data).error
    assert servers_of(data) == []
    refused = machine.user(data).said()
    assert "postgres" in refused["error"]
    assert "postgres.log" in refused["remedy"]


def test_eight_programs_at_once_share_one_stack(machine: Machine) -> None:
    data = machine.make("data") / "new"
    users = [machine.user(data) for _ in range(8)]
    told = [user.said(90) for user in users]
    assert all(one == told[0] for one in told), told
    assert len(serving(data / "redis", "redis-server", str(data))) == 1
    for user in users[:4]:
        user.kill()
    assert [user.leave() for user in users[4:]] == [0] * 4
    until(lambda: not servers_of(data), 10)


def test_who_comes_while_the_servers_stop_waits_and_starts_them_again(machine: Machine) -> None:
    data = machine.make("data")
    user = machine.user(data)
    write_row(user.said()["database_url"], "kept")
    for _ in range(3):
        user.kill()
        time.sleep(0.2)
        user = machine.user(data)
        assert rows(user.said()["database_url"]) == ["kept"]


def test_stale_pid_files_that_name_living_programs_are_no_obstacle(machine: Machine) -> None:
    data = machine.make("data")
    user = machine.user(data)
    told = user.said()
    write_row(told["database_url"], "kept")
    left = (data / "postgres" / "postmaster.pid").read_text().splitlines()
    user.leave()
    owner = (data / "postgres").stat()  # Postgres ignores the numbers of programs it may not signal
    bystander = subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        stale = data / "postgres" / "postmaster.pid"
        stale.write_text("\n".join([str(bystander.pid), *left[1:]]) + "\n")
        os.chown(stale, owner.st_uid, owner.st_gid)
        assert rows(machine.user(data).said()["database_url"]) == ["kept"]
        assert bystander.poll() is None, "a bystander was killed"
    finally:
        bystander.kill()
        bystander.wait()


def test_a_folder_too_long_or_too_odd_for_a_socket_path_works(either: Machine) -> None:
    data = either.make("data") / ("é, 'quoted' \" \\ folder" + "x" * 120)
    user = either.user(data)
    told = user.said()
    sockets = Path(told["redis_url"].removeprefix("unix://")).parent
    assert len(str(sockets)) < 80
    write_row(told["database_url"], "kept")
    assert rows(told["database_url"]) == ["kept"]
    assert user.leave() == 0
    assert not sockets.exists()


def test_a_full_disk_is_told_as_such(machine: Machine) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small disk can only be mounted by root")
    data = machine.make("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m,mode=0777", "tmpfs", data], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["fallocate", "-l", "150m", data / "lost+found"], check=True)
        refused = machine.user(data).said()
        assert "MB free" in refused["error"]
        assert "free some space" in refused["remedy"]
        assert [part.name for part in data.iterdir()] == ["lost+found"], "nothing half-written"
        (data / "lost+found").unlink()
        user = machine.user(data)
        write_row(user.said()["database_url"], "kept")
        user.leave()
        subprocess.run(["fallocate", "-l", "120m", data / "blobs" / "filler"], check=True)
        assert "MB free" in machine.user(data).said()["error"]
        (data / "blobs" / "filler").unlink()
        user = machine.user(data)
        assert rows(user.said()["database_url"]) == ["kept"]
        user.leave()
    finally:
        subprocess.run(["umount", "-l", data], check=True)


def servers_of(data: Path) -> list[int]:
    """The processes of both servers on this folder."""
    folder = Folder(data.resolve())
    return serving(folder.postgres, "postgres", str(data)) + serving(folder.redis, "redis-server", str(data))


def until(reached: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


def write_row(database_url: str, text: str) -> None:
    with psycopg.connect(database_url) as line:
        line.execute("CREATE TABLE IF NOT EXISTS noted (text text)")
        line.execute("INSERT INTO noted VALUES (%s)", [text])


def rows(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as line:
        return [row[0] for row in line.execute("SELECT text FROM noted ORDER BY text")]


def kill_server(data: Path, which: str) -> int:
    pid: int | None = getattr(status(data), which) if which == "guardian" else getattr(status(data), which).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in _pids(data), 5)  # it dies a moment after the call
    return pid


def _pids(data: Path) -> set[int | None]:
    told = status(data)
    return {told.guardian, *(pid for pid in servers_of(data) if Path(f"/proc/{pid}").exists())}


def _place() -> Path:
    return Path(tempfile.mkdtemp(prefix="pilotis-test-", dir="/tmp"))


def _packages() -> list[str]:
    return [str(Path(pilotis.__file__).parents[1]), str(Path(psycopg.__file__).parents[1])]


def _python(account: Account | None) -> str:
    """An interpreter of this version that the account may run."""
    if account is None:
        return sys.executable
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for found in (sys.executable, shutil.which(name), f"/usr/bin/{name}"):
        if found and Path(found).exists() and not reachable(Path(found).resolve(), account):
            closed = [path for path in _packages() if reachable(Path(path).resolve(), account)]
            if not closed:
                return found
            pytest.skip(f"user id {account.uid} may not read {closed[0]}: the tests of a normal user need that")
    pytest.skip(f"no {name} here that user id {account.uid} may run: the tests of a normal user need one")
