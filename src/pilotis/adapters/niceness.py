"""Giving way to others, where the scheduler weighs sessions before it weighs processes.

Linux with autogroups (sched(7), the default of most kernels) shares the processor between sessions first: a niceness counts only
among the processes of one session. Who leads a session of its own, as all our processes do, gives way to nobody by being nice alone.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

TRIES, PAUSE_S = 20, 0.1
"""The kernel takes one such change in a tenth of a second from all users but root; workers start together."""


def give_way(niceness: int) -> None:
    """Make this process nicer by so much, and its session with it where it leads one."""
    pass_on(os.getpid(), os.nice(niceness))


def pass_on(pid: int, niceness: int | None = None) -> None:
    """Give the session that `pid` leads that niceness, or this process' own. Nothing where it leads none, or there are no autogroups."""
    wanted = os.nice(0) if niceness is None else niceness
    for _ in range(TRIES):
        with suppress(OSError):  # another system, a kernel without them, a process that is gone
            try:
                if os.getsid(pid) == pid:
                    Path(f"/proc/{pid}/autogroup").write_text(str(wanted))
            except BlockingIOError:
                time.sleep(PAUSE_S)
                continue
        return
