from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DRILL = Path(__file__).with_name("crash_drill.py")


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_or_doubled_whatever_is_killed(tmp_path: Path) -> None:
    faults = ("workers", "api", "guardian", "up")  # Postgres and Redis fall in tests/integration/batch
    command = [sys.executable, str(DRILL), "--files", "40", "--kills", "2", "--folder", str(tmp_path), "--faults", *faults]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split()[:7] for line in done.stdout.splitlines()[1:]]
    assert rows == [[fault, "2", "40", "40", "0", "0", "0"] for fault in faults]
