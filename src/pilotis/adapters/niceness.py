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
    """Make this process nicer by so much, and its session by half of that where it leads one."""
    os.nice(niceness)
    pass_on(os.getpid())


def pass_on(pid: int) -> None:
    """Give the session that `pid` leads half of this process' niceness. Nothing where it leads none, or there are no autogroups.

    Half, because a session stands beside all that runs on the machine: on two cores that others kept busy a loop got 0.23 of a core
    in a session of niceness 0, 0.10 at 5 and 0.05 at 10.
    """
    wanted = os.nice(0) // 2
    for _ in range(TRIES):
        with suppress(OSError):  # another system, a kernel without them, a process that is gone
            try:
                if os.getsid(pid) == pid:
                    Path(f"/proc/{pid}/autogroup").write_text(str(wanted))
            except BlockingIOError:
                time.sleep(PAUSE_S)
                continue
        return
