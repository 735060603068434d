from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mixed_files.py")


@pytest.mark.timeout(500)
def test_every_file_of_a_mixed_collection_ends_as_text_or_as_a_reason(tmp_path: Path) -> None:
    folder = os.environ.get("PILOTIS_TEST_DATA")
    archive = Path(folder, "raw-mixed-parsers.tar.gz") if folder else None
    if archive is None or not archive.is_file():
        pytest.skip(
            "PILOTIS_TEST_DATA names no folder with raw-mixed-parsers.tar.gz: no hostile file was sent through the service"
        )
    command = [sys.executable, str(SCRIPT), str(archive), "--rounds", "2", "--most-bytes", "200000", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=480)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert done.stdout.rstrip().endswith("\n0 complaints")
