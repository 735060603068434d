"""The parent of Postgres and Redis: starts them, starts them again when they fall, and ends them when nobody uses them.

    python -m pilotis.embedded.guardian DATA LOCK

Whoever uses the stack holds a shared lock on `run/users.lock`; the kernel lets go of it however that program ends. The guardian
keeps asking for the exclusive lock: once it gets it, nobody is left. It holds `run/guardian.lock` for life, taken by the program
that started it and handed over as the file descriptor LOCK. Only small standard modules are imported, to stay near 15 MB.
"""

from __future__ import annotations

import collections
import fcntl
import os
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from pilotis.embedded import account, binaries, folder, probe, report, servers
from pilotis.errors import SetupError

POLL_S = 0.25
TRIM_EVERY_S = 60.0
READY_S = 600.0
"""Postgres replays its log after a crash; it ends by itself where it cannot."""
PATIENCE_S = 30.0
FALLS = 5
FALLS_WITHIN_S = 60.0


def main() -> int:
    """Guard the folder until nobody uses it; return the exit code."""
    data, lock = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(lock, False)
    if os.fork():
        os._exit(0)  # the starter waits for this and owes us no burial
    os.umask(0o077)
    watch = Watch(folder.Folder(data))
    try:
        watch.begin()
        os.chdir("/")  # only now: a relative search path is looked at until the programs are found
        watch.hold()
        watch.end()
    except SetupError as error:
        watch.give_up(error)
        return 1
    except Exception as error:  # the last edge of this process: a starter waits for the reason
        traceback.print_exc()
        watch.give_up(SetupError(f"the guardian of {data} failed: {error!r}", remedy=f"read {data / 'logs' / 'guardian.log'}"))
        return 1
    return 0


class Watch:
    """One folder under guard."""

    def __init__(self, watched: folder.Folder) -> None:
        self._folder = watched
        self._users = os.open(watched.run / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._servers: tuple[servers.Server, ...] = ()
        self._sockets: Path | None = None
        self._falls: collections.deque[float] = collections.deque(maxlen=FALLS)
        self._asked_to_end = False
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, self._ask_to_end)

    def begin(self) -> None:
        """Start both servers. Raises SetupError."""
        self._tell("starting")
        become = account.account_for(self._folder.path)
        programs = binaries.find(become)
        self._sockets = folder.socket_dir(self._folder, become)
        redis = servers.redis(self._folder, programs, become, self._sockets)
        self._servers = (redis,)
        redis.start()
        postgres = servers.postgres(self._folder, programs, become, self._sockets)
        self._servers = (postgres, redis)
        postgres.start()
        for server in self._servers:
            while not self._is_ready(server):
                self._count_fall(server)
                server.start()
        self._tell("ready")

    def hold(self) -> None:
        """Keep both alive until nobody uses them. Raises SetupError where one keeps falling."""
        trimmed = time.monotonic()
        while not self._asked() and not self._nobody_left():
            if select.select([self._woken], [], [], POLL_S)[0]:
                os.read(self._woken, 512)
            for server in self._servers:
                if server.dead():
                    self._raise_again(server)
            if time.monotonic() - trimmed > TRIM_EVERY_S:
                trimmed = time.monotonic()
                for server in self._servers:
                    server.trim_log()

    def end(self) -> None:
        """Stop both servers cleanly."""
        self._tell("stopping")
        for server in self._servers:
            server.stop(patience_s=PATIENCE_S)
        _forget(self._sockets)
        self._tell("stopped")

    def give_up(self, error: SetupError) -> None:
        """Stop what runs and leave the reason."""
        for server in self._servers:
            server.stop(patience_s=PATIENCE_S)
        _forget(self._sockets)
        self._tell("failed", error)

    def _is_ready(self, server: servers.Server) -> bool:
        """False where somebody killed it while it started. Raises SetupError where it ended by itself, or does not answer."""
        try:
            server.wait_ready(timeout_s=READY_S, given_up=self._asked)
        except SetupError:
            if server.killed():
                return False
            raise
        return True

    def _raise_again(self, server: servers.Server) -> None:
        self._count_fall(server)
        self._tell("restarting")
        server.start()
        try:
            server.wait_ready(timeout_s=READY_S, given_up=self._asked)
        except SetupError:
            if not server.dead():
                raise
            return  # the next look counts it as another fall
        self._tell("ready")

    def _count_fall(self, server: servers.Server) -> None:
        """Raises SetupError where there were too many."""
        code = server.process.returncode if server.process else None
        print(f"{time.strftime('%F %T')} {server.name} fell (exit code {code}), starting it again", file=sys.stderr, flush=True)  # noqa: T201 - its log
        now = time.monotonic()
        if len(self._falls) == FALLS and now - self._falls[0] < FALLS_WITHIN_S:
            raise server.failure(f"fell {FALLS} times within {FALLS_WITHIN_S:.0f} s")
        self._falls.append(now)

    def _nobody_left(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _asked(self) -> bool:
        return self._asked_to_end

    def _ask_to_end(self, *_: object) -> None:
        self._asked_to_end = True

    def _tell(self, state: report.State, error: SetupError | None = None) -> None:
        pids = {server.name: server.pid for server in self._servers if server.pid and not server.dead()}
        report.write(
            self._folder,
            report.Report(
                state=state,
                guardian=os.getpid(),
                sockets=str(self._sockets or ""),
                postgres=pids.get("postgres"),
                redis=pids.get("redis"),
                error=error.message if error else "",
                remedy=error.remedy if error else "",
            ),
        )


def _forget(sockets: Path | None) -> None:
    """Remove the sockets' folder with what a killed server left in it; the data folder names the next one anew."""
    if sockets is None:
        return
    for left in (probe.POSTGRES_SOCKET, f"{probe.POSTGRES_SOCKET}.lock", probe.REDIS_SOCKET):
        (sockets / left).unlink(missing_ok=True)
    with suppress(OSError):
        sockets.rmdir()


if __name__ == "__main__":
    sys.exit(main())
