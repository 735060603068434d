from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).with_name("chaos.py")


@pytest.mark.timeout(400)
def test_what_was_acknowledged_ends_once_and_nothing_is_left_over() -> None:
    command = [sys.executable, str(CHAOS), "--documents", "60", "--minutes", "0.4", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=380)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sum(found["kills"].values()) >= 3
    assert found["acknowledged"] + sum(found["refused"].values()) == 60
    assert sum(found["found"].values()) == found["acknowledged"]
