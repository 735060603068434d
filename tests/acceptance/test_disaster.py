from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DISASTER = Path(__file__).with_name("disaster.py")


@pytest.mark.timeout(240)
def test_a_restored_service_answers_as_before_and_owes_the_same() -> None:
    command = [sys.executable, str(DISASTER), "--documents", "12", "--questions", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    looked = {line.split(None, 2)[2]: int(line.split()[0]) for line in done.stdout.splitlines()[1:]}
    assert looked["answers that are not the same"] == 12
    assert looked["costs told before the snapshot and not in it"] >= 12
    assert looked["micro-euros, other than in the manifest"] > 1000
