"""The log files of `up`: bounded, however long it stays up."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 20_000_000


def bound(log: Path, most: int = MOST_BYTES) -> bool:
    """Once it holds more than `most` bytes, put the log aside as NAME.1, in the place of the one before, and begin anew.

    Whoever has it open for appending goes on with the same file. What is written in the instant between the copy and the cut is
    lost: these lines are for people, and none of them is counted.
    """
    try:
        if log.stat().st_size <= most:
            return False
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
    except FileNotFoundError:
        return False
    return True
