"""Processes as the system tells them: who serves a folder, how a child is bound to its parent, how one is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilotis.embedded.account import Account

PR_SET_PDEATHSIG = 1


def serving(home: Path, program: str, mark: str) -> list[int]:
    """Processes of `program` whose working directory is `home`; elsewhere than on Linux, those whose command line holds `mark`.

    Pid files are not asked: after a crash their number may belong to somebody else.
    """
    if not sys.platform.startswith("linux"):
        return _listed(program, mark)
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            if os.readlink(f"{entry.path}/cwd") == str(home) and Path(entry.path, "comm").read_text().strip() == program:  # noqa: PTH115
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile, or belongs to another user
            continue
    return found


def end(pids: Callable[[], Sequence[int]], *, politely: signal.Signals, patience_s: float) -> None:
    """Send the signal, wait until `pids` finds nobody, then kill whom patience did not help with."""
    for sent, wait_s in ((politely, patience_s), (signal.SIGKILL, 5.0)):
        left = pids()
        for pid in left:
            _send(pid, sent)
        deadline = time.monotonic() + wait_s
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = pids()
        if not left:
            return


def spawn(
    argv: Sequence[str], *, home: Path, log: int, account: Account | None, dying: signal.Signals
) -> subprocess.Popen[bytes]:
    """Start a child that gets the signal `dying` when this process ends, however it ends (Linux only). Raises OSError."""
    return subprocess.Popen(  # noqa: S603
        argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=_bind(dying),  # noqa: PLW1509 - this process has one thread
        start_new_session=True,
        **options(home, account),
    )


def options(home: Path, account: Account | None) -> dict[str, Any]:
    """What every program of a server is started with: its folder, its account, an environment without surprises."""
    become: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    return {**become, "cwd": home, "env": {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, "umask": 0o077}


def _bind(dying: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:  # runs after the change of user, which would undo it
        prctl(PR_SET_PDEATHSIG, int(dying), 0, 0, 0)
        if os.getppid() != parent:  # it ended before it could be asked for that
            os._exit(1)

    return bind


def _send(pid: int, sent: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sent)


def _listed(program: str, mark: str) -> list[int]:
    rows = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=False).stdout.splitlines()  # noqa: S607
    return [int(row.split(None, 1)[0]) for row in rows if program in row and mark in row]
