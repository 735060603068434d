"""Use the servers of a data folder: start them or join those who do, and leave.

The last one to leave ends them, and so does whoever is killed last: see `guardian`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pilotis.embedded import account, probe, report
from pilotis.embedded import folder as folders
from pilotis.embedded.servers import tail
from pilotis.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 60.0
LEAVE_S = 40.0
POLL_S = 0.02
TRIES = 3


class Addresses(NamedTuple):
    """Where the servers are."""

    database_url: str
    redis_url: str
    """Of budgets, rates, caches and keys."""
    data: Path | None = None
    broker_url: str | None = None
    """Of the queues; None where they are in the same Redis."""

    @property
    def queues_url(self) -> str:
        return self.broker_url or self.redis_url


class Stack:
    """One program's use of the servers of one data folder. For one thread at a time; sync, because it is done at start and end."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._folder: folders.Folder | None = None
        self._held: int | None = None
        self._holder = 0

    def acquire(self, *, timeout_s: float = START_S) -> Addresses:
        """Start the servers or join them; return once both answer.

        Calling it again is cheap and starts them again should their guardian have been killed. Raises SetupError.
        """
        newcomer = self._held is None
        try:
            return self._enter(folders.prepare(self._data), time.monotonic() + timeout_s)
        except BaseException:  # Ctrl-C too: nothing may stay behind
            if newcomer:
                self.release()
            raise

    def _enter(self, folder: folders.Folder, deadline: float) -> Addresses:
        self._folder = folder
        account.account_for(folder.path)  # raises here, at once, what the guardian could only report
        for _ in range(TRIES):
            self._join(folder, deadline)
            told = _wait_ready(folder, deadline)
            if told:
                sockets = Path(told.sockets)
                return Addresses(
                    database_url=f"postgresql://pilotis@/pilotis?host={sockets}",
                    redis_url=f"unix://{sockets / probe.REDIS_SOCKET}",
                    data=folder.path,
                )
        log = folder.logs / "guardian.log"
        raise SetupError(
            f"the guardian of {folder.path} ended {TRIES} times without a word; its log ends with:\n{tail(log)}",
            remedy=f"read {log}, and check that the disk is not full",
        )

    def release(self) -> None:
        """Leave; where nobody else is left, return once both servers have ended. Does nothing where nothing is held."""
        held, self._held = self._held, None
        if held is None:
            return
        if self._holder != os.getpid():  # a forked child: the lock is its parent's
            os.close(held)
            return
        last = _lock(held, fcntl.LOCK_EX)
        fcntl.flock(held, fcntl.LOCK_UN)
        if last and self._folder:
            _wait_ended(self._folder, held)
        os.close(held)

    def _join(self, folder: folders.Folder, deadline: float) -> None:
        """Hold the users' lock with a guardian alive. Waits for a guardian that is just ending."""
        gate = _open(folder, "start.lock")
        try:
            _until(lambda: _lock(gate, fcntl.LOCK_EX), deadline, "another program that is starting the servers", folder)
            if self._held is None:
                users = _open(folder, "users.lock")
                self._held, self._holder = users, os.getpid()
                try:
                    _until(
                        lambda: _lock(users, fcntl.LOCK_SH), deadline, "the servers to stop before they can start again", folder
                    )
                except SetupError:
                    self._held = None
                    os.close(users)
                    raise
            guardian = _open(folder, "guardian.lock")
            try:
                if _lock(guardian, fcntl.LOCK_EX):
                    report.forget(folder)
                    _start_guardian(folder, guardian)
            finally:
                os.close(guardian)
        finally:
            os.close(gate)


@contextmanager
def running(data: Path, *, timeout_s: float = START_S) -> Iterator[Addresses]:
    """Postgres and Redis on this data folder for as long as the block lasts. Raises SetupError where they cannot be had."""
    stack = Stack(data)
    try:
        yield stack.acquire(timeout_s=timeout_s)
    finally:
        stack.release()


def revive(data: Path) -> None:
    """Start the servers again where their guardian was killed: for a program that uses them already. Cheap. Raises SetupError."""
    if not guarded(folders.locate(data)):
        with running(data):
            pass


def guarded(folder: folders.Folder) -> bool:
    """Whether a guardian is alive."""
    try:
        lock = os.open(folder.run / "guardian.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _wait_ready(folder: folders.Folder, deadline: float) -> report.Report | None:
    """The guardian's report once both servers answer; None where the guardian is gone. Raises SetupError where it gave up."""
    while True:
        told = report.read(folder)
        if told and told.state == "failed":
            raise SetupError(told.error, remedy=told.remedy)
        if told and told.state == "ready":
            try:
                probe.postgres(Path(told.sockets))
                probe.redis(Path(told.sockets))
            except OSError:
                pass
            else:
                return told
        if not guarded(folder) and report.read(folder) == told:
            return None
        if time.monotonic() > deadline:
            state = told.state if told else "starting"
            raise SetupError(
                f"the servers of {folder.path} are not ready yet (state: {state}); Postgres last said:\n{tail(folder.logs / 'postgres.log', 3)}",
                remedy="after a crash Postgres replays its log first: try again in a minute",
            )
        time.sleep(POLL_S)


def _wait_ended(folder: folders.Folder, users: int) -> None:
    deadline = time.monotonic() + LEAVE_S
    next_look = time.monotonic() + 1.0
    while guarded(folder) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        if time.monotonic() > next_look:
            next_look += 1.0
            if _used(users):
                return  # somebody came in meanwhile


def _used(users: int) -> bool:
    """Whether programs hold the shared lock, as opposed to nobody, or a guardian that is ending."""
    alone = _lock(users, fcntl.LOCK_EX)
    shared = not alone and _lock(users, fcntl.LOCK_SH)
    fcntl.flock(users, fcntl.LOCK_UN)
    return shared


def _start_guardian(folder: folders.Folder, lock: int) -> None:
    """Start it detached, with the lock it holds for life. It forks, so waiting for the first process is short."""
    log = folder.logs / "guardian.log"
    with log.open("ab") as written:
        started = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "pilotis.embedded.guardian", str(folder.path), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            pass_fds=(lock,),
            start_new_session=True,
        )
    if started.wait() != 0:
        raise SetupError(f"the guardian of {folder.path} cannot start; its log ends with:\n{tail(log)}", remedy=f"read {log}")


def _until(reached: Callable[[], bool], deadline: float, what: str, folder: folders.Folder) -> None:
    while not reached():
        if time.monotonic() > deadline:
            raise SetupError(f"{folder.path}: waited too long for {what}", remedy="see who uses it: pilotis doctor")
        time.sleep(POLL_S)


def _open(folder: folders.Folder, name: str) -> int:
    place = folder.run / name
    try:
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(f"{place} cannot be opened: {error.strerror}", remedy="choose another folder with --data") from error
    owner = folder.run.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(lock, owner.st_uid, owner.st_gid)
    return lock


def _lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
