from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DELETIONS = Path(__file__).with_name("deletions.py")


@pytest.mark.timeout(180)
def test_no_answer_tells_of_what_was_deleted_before_it_was_asked_for() -> None:
    command = [sys.executable, str(DELETIONS), "--seconds", "8", "--documents", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    words = {line.rpartition(" ")[0].strip(): line.rpartition(" ")[2] for line in done.stdout.splitlines()}
    assert int(words["deleted"]) >= 2
    assert int(words["plain, hit"]) + int(words["stream, hit"]) > 10
    assert int(done.stdout.splitlines()[-1].split()[0]) > 10, "it could not have seen an answer that tells too much"
