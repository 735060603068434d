"""A worker gives way although it leads a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
needs_autogroups = pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
GIVES_WAY = """
import os
from pathlib import Path
from pilotis.adapters.niceness import give_way
give_way(7)
print(os.nice(0), Path("/proc/self/autogroup").read_text().split()[-1])
"""
PASSES_ON = """
import os, subprocess, sys
from pathlib import Path
from pilotis.adapters.niceness import pass_on
os.nice(5)
child = subprocess.Popen(["sleep", "30"], start_new_session=True)
pass_on(child.pid)
print(Path(f"/proc/{child.pid}/autogroup").read_text().split()[-1])
child.kill()
"""


def said(code: str, *, own_session: bool) -> list[str]:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, start_new_session=own_session, timeout=30)
    return done.stdout.split()


@needs_autogroups
def test_a_process_that_leads_a_session_makes_the_session_half_as_nice() -> None:
    assert said(GIVES_WAY, own_session=True) == [str(os.nice(0) + 7), str((os.nice(0) + 7) // 2)]


@needs_autogroups
def test_the_session_of_somebody_else_stays_as_it_is() -> None:
    before = AUTOGROUP.read_text()
    # A session that is older than the autogroups of its kernel, as in some containers, has none: its file is empty.
    assert int(said(GIVES_WAY.replace(".split()[-1]", ""), own_session=False)[0]) == os.nice(0) + 7
    assert AUTOGROUP.read_text() == before


@needs_autogroups
def test_a_child_with_a_session_of_its_own_gets_half_of_our_niceness() -> None:
    assert said(PASSES_ON, own_session=True) == [str((os.nice(0) + 5) // 2)]
