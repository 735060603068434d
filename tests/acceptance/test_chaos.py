from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).with_name("chaos.py")


@pytest.mark.timeout(240)
def test_whatever_is_killed_nothing_acknowledged_is_lost_and_nothing_left_over(tmp_path: Path) -> None:
    options = (
        "--documents",
        "40",
        "--minutes",
        "0.33",
        "--every",
        "1.5",
        "--settle",
        "120",
        "--folder",
        str(tmp_path / "town"),
    )
    done = subprocess.run([sys.executable, str(CHAOS), *options], capture_output=True, text=True, check=False, timeout=220)
    assert done.returncode == 0, done.stdout + done.stderr
    # That it looked at anything.
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    looked = {line[2]: int(line[0]) for line in lines if len(line) == 3 and line[0].isdigit()}
    assert looked["acknowledged documents lost"] >= 35
    assert looked["passages there twice"] >= looked["indexed documents that search does not find"] >= 25
    assert looked["answers that tell of what was deleted before"] > 50
    killed = done.stdout.partition("killed")[2].partition("\n\n")[0].split()
    assert int(killed[-1]) >= 8
