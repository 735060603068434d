"""What the guardian tells those who wait for it: one small file, replaced whole."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pilotis.embedded.folder import Folder

State = Literal["starting", "ready", "restarting", "stopping", "stopped", "failed"]


class Report(NamedTuple):
    """How the stack is. The pids are of this machine and may be stale once the guardian is gone."""

    state: State
    guardian: int
    sockets: str
    postgres: int | None
    redis: int | None
    error: str
    remedy: str


def write(folder: Folder, told: Report) -> None:
    """Replace the report. A disk too full for it is no reason to stop: whoever waits then sees the guardian go."""
    place = _place(folder)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(told._asdict()), encoding="utf-8")
        owner = place.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(draft, owner.st_uid, owner.st_gid)
        draft.rename(place)
    except OSError:
        draft.unlink(missing_ok=True)


def read(folder: Folder) -> Report | None:
    """The last report, or None where there is none that can be read."""
    try:
        return Report(**json.loads(_place(folder).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(folder: Folder) -> None:
    _place(folder).unlink(missing_ok=True)


def _place(folder: Folder) -> Path:
    return folder.run / "status.json"
