"""Postgres and Redis as child processes: how each is laid out, started, asked and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pilotis.embedded import probe, processes
from pilotis.embedded.account import reachable
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilotis.embedded.account import Account
    from pilotis.embedded.binaries import Binaries
    from pilotis.embedded.folder import Folder

LOG_BYTES = 4 * 2**20
LOG_TAIL_BYTES = 2**20
MARGIN_BYTES = 64 * 2**20

POSTGRES_CONF = """\
# Written by Pilotis at each start. To change a setting, use ALTER SYSTEM: it wins over this file.
max_connections = 60
shared_buffers = 128MB
maintenance_work_mem = 128MB        # an HNSW graph of 100 000 vectors of 384 halves is built within it
work_mem = 16MB
effective_cache_size = 1GB
random_page_cost = 1.1
effective_io_concurrency = 16
io_method = sync                    # no I/O workers beside the backends of a small machine
dynamic_shared_memory_type = {shared_memory}
max_worker_processes = 4
max_parallel_workers = 2
max_parallel_workers_per_gather = 1
max_parallel_maintenance_workers = 1
max_logical_replication_workers = 0
wal_level = minimal                 # nothing replicates from here, and building an index then writes no log
max_wal_senders = 0
max_wal_size = 1GB
checkpoint_timeout = 15min
log_checkpoints = off
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
jit = off
autovacuum_naptime = 5s            # statistics follow an ingestion at once: the plan of a search depends on them
default_text_search_config = 'pg_catalog.simple'
"""


class Server:
    """One server process, started again by whoever watches it."""

    def __init__(
        self, name: str, argv: list[str], *, home: Path, log: Path, account: Account | None, sockets: Path, stop: signal.Signals
    ) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._argv, self._home, self._account, self._sockets, self._stop = argv, home, account, sockets, stop
        self._probe: Callable[..., str] = getattr(probe, name)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> None:
        """Start the process in a home nobody else serves. Raises SetupError where it cannot even begin."""
        self._clear_home()
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.process = processes.spawn(self._argv, home=self._home, log=log, account=self._account, dying=self._stop)
        except (OSError, subprocess.SubprocessError) as error:
            raise SetupError(
                f"{self.name} cannot be started: {error}", remedy=f"check {self._argv[0]} and your permissions"
            ) from error
        finally:
            os.close(log)

    def dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def killed(self) -> bool:
        """Whether somebody else ended it, rather than its own trouble."""
        return self.process is not None and self.process.poll() == -signal.SIGKILL

    def wait_ready(self, *, timeout_s: float, given_up: Callable[[], bool]) -> None:
        """Return once it answers, or nobody waits for it any more. Raises SetupError where it ends, or does not answer in time."""
        deadline = time.monotonic() + timeout_s
        last = "no answer"
        while time.monotonic() < deadline and not given_up():
            try:
                self._probe(self._sockets)
            except OSError as error:
                last = str(error)
            else:
                return
            if self.dead():
                raise self.failure("ended while starting")
            time.sleep(0.03)
        if given_up():
            return
        raise self.failure(f"did not answer within {timeout_s:.0f} s ({last})")

    def failure(self, what: str) -> SetupError:
        """What to say when this server is beyond help: its last lines, and the remedy they suggest."""
        lines = tail(self.log)
        if "No space left on device" in lines or "Disk quota exceeded" in lines:
            return SetupError(
                f"{self.name} {what}: the disk of {self._home} is full", remedy="free some space, then start again"
            )
        return SetupError(f"{self.name} {what}; it last said:\n{lines}", remedy=f"read {self.log}")

    def stop(self, *, patience_s: float) -> None:
        """End it cleanly; kill it when patience runs out."""
        if self.process is None or self.dead():
            return
        self.process.send_signal(self._stop)
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def trim_log(self) -> None:
        """Keep the end of a log that has grown too long; the server goes on appending to the same file."""
        try:
            if self.log.stat().st_size <= LOG_BYTES:
                return
            self.log.with_suffix(".log.1").write_bytes(_last(self.log, LOG_TAIL_BYTES))
            os.truncate(self.log, 0)
        except OSError:  # a full disk must not end the watch
            return

    def _clear_home(self) -> None:
        """Let leftovers of a crash end: an old server, or its children that still write."""
        program = Path(self._argv[0]).name
        processes.end(lambda: processes.serving(self._home, program, str(self._sockets)), politely=self._stop, patience_s=20.0)
        if self.name == "postgres":
            self._drop_stale_locks()

    def _drop_stale_locks(self) -> None:
        """Remove pid files whose number another program bears by now: Postgres would take that one for another Postgres."""
        for held in (self._home / "postmaster.pid", self._sockets / f"{probe.POSTGRES_SOCKET}.lock"):
            if held.exists() and _alive(held):
                held.unlink()


def postgres(folder: Folder, programs: Binaries, account: Account | None, sockets: Path) -> Server:
    """Postgres on this folder, which is laid out first where it is new. Raises SetupError."""
    log = folder.logs / "postgres.log"
    draft = folder.path / "postgres.new"
    shutil.rmtree(draft, ignore_errors=True)
    if not folder.postgres.is_dir():
        try:
            _lay_out(draft, programs, account)
            draft.rename(folder.postgres)
        except OSError as error:
            raise SetupError(
                f"Postgres' folder cannot be made in {folder.path}: {error}", remedy="check the disk and your permissions"
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    _configure(folder.postgres, account)
    argv = [str(programs.postgres), "-D", _data_dir(folder.postgres, account)]
    for setting in (
        f"unix_socket_directories={sockets}",
        "unix_socket_permissions=0700",
        "listen_addresses=",
        "port=5432",
        "fsync=on",
        "logging_collector=off",
    ):
        argv += ["-c", setting]
    return Server("postgres", argv, home=folder.postgres, log=log, account=account, sockets=sockets, stop=signal.SIGINT)


def redis(folder: Folder, programs: Binaries, account: Account | None, sockets: Path) -> Server:
    """Redis on this folder, durable to the second and never forgetting a queue to save memory."""
    folder.redis.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(folder.redis, account.uid, account.gid)
    settings = {
        "port": "0",
        "unixsocket": str(sockets / probe.REDIS_SOCKET),
        "unixsocketperm": "700",
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": "512mb",
        "maxmemory-policy": "volatile-lru",  # what ends by itself: caches, rates; never a queue, a budget, a cost
        "save": "",
    }
    argv = [str(programs.redis)]
    for name, value in settings.items():
        argv += [f"--{name}", value]
    log = folder.logs / "redis.log"
    return Server("redis", argv, home=folder.redis, log=log, account=account, sockets=sockets, stop=signal.SIGTERM)


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log, or nothing."""
    try:
        return "\n".join(_last(log, 4096).decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _lay_out(draft: Path, programs: Binaries, account: Account | None) -> None:
    """Make a cluster with the database `pilotis`; synced to disk once, at the end."""
    draft.mkdir(mode=0o700)
    if account:
        os.chown(draft, account.uid, account.gid)
    place = _data_dir(draft, account)
    initdb, server = str(programs.initdb), str(programs.postgres)
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    access = ["--username=pilotis", "--auth-local=trust", "--auth-host=reject"]
    steps = (
        ([initdb, "-D", place, *access, *locale, "--data-checksums", "--no-sync", "--no-instructions"], ""),
        ([server, "--single", "-F", "-j", "-D", place, "template1"], "CREATE DATABASE pilotis;\n"),
        ([initdb, "--sync-only", "-D", place], ""),
    )
    for argv, typed in steps:
        done = subprocess.run(  # noqa: S603
            argv,
            input=typed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **processes.options(draft, account),
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode or "ERROR:" in said or "FATAL:" in said:
            raise _layout_failure(draft, said)


def _layout_failure(draft: Path, said: str) -> SetupError:
    if "No space left on device" in said or "Disk quota exceeded" in said or shutil.disk_usage(draft.parent).free < 2**20:
        return SetupError(f"the disk of {draft.parent} is full", remedy="free some space, or choose another folder with --data")
    last = "\n".join(said.strip().splitlines()[-6:])
    return SetupError(
        f"Postgres' folder cannot be laid out in {draft.parent}:\n{last}", remedy="check the disk and your permissions"
    )


def _configure(home: Path, account: Account | None) -> None:
    written = home / "postgresql.conf"
    draft = home / "postgresql.conf.new"
    draft.write_text(POSTGRES_CONF.format(shared_memory=_shared_memory()), encoding="ascii")
    if account:
        os.chown(draft, account.uid, account.gid)
    draft.rename(written)


def _shared_memory() -> str:
    """`posix`, but where containers make /dev/shm too small for an index built in parallel: `mmap`."""
    try:
        held = os.statvfs("/dev/shm")  # noqa: S108
    except OSError:
        return "posix"
    return "posix" if held.f_blocks * held.f_frsize >= 128 * 2**20 + MARGIN_BYTES else "mmap"


def _data_dir(home: Path, account: Account | None) -> str:
    """How a program finds its own folder. Raises SetupError where it cannot.

    The path may lead through folders closed to a borrowed account; its working directory does not: Linux follows
    /proc/self/cwd without looking at the parents, so no permission has to be loosened.
    """
    if account is None:
        return str(home)
    if Path("/proc/self/cwd").exists():
        return "/proc/self/cwd"
    if closed := reachable(home, account):
        raise SetupError(
            f"as root the servers run under user id {account.uid}, which may not enter {closed}",
            remedy="run Pilotis as a normal user, or choose a folder with --data whose parents all users may enter",
        )
    return str(home)


def _alive(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text().split("\n", 1)[0]), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _last(log: Path, size: int) -> bytes:
    with log.open("rb") as lines:
        lines.seek(max(0, os.fstat(lines.fileno()).st_size - size))
        return lines.read()
