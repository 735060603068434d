"""How a data folder's servers are, for those who ask without using them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pilotis.embedded import folder as folders
from pilotis.embedded import probe, report
from pilotis.embedded.stack import guarded


class ServerStatus(NamedTuple):
    """One server. `version` and `pid` are None where it does not answer."""

    version: str | None
    pid: int | None
    socket: str | None


class Status(NamedTuple):
    """One data folder. `format` is None where the folder does not exist or is not ours."""

    data: Path
    format: int | None
    state: str
    """A state of the guardian, or `stopped` where none is alive."""
    guardian: int | None
    postgres: ServerStatus
    redis: ServerStatus
    disk_bytes: dict[str, int]
    """Bytes on disk per part of the folder, of the parts that may be read."""
    users: tuple[int, ...]
    """Processes that use the servers, where the system tells (Linux)."""
    error: str
    """Why the guardian gave up, where it did."""


def status(data: Path) -> Status:
    """Look at the folder without touching it. Raises SetupError for a folder of a newer version."""
    folder = folders.locate(data)
    try:
        number = folders.format_of(folder)
    except OSError:
        number = None
    told = report.read(folder)
    alive = guarded(folder)
    sockets = Path(told.sockets) if alive and told and told.sockets else None
    return Status(
        data=folder.path,
        format=number,
        state=told.state if told and (alive or told.state == "failed") else "stopped",
        guardian=told.guardian if alive and told else None,
        postgres=_ask("postgres", sockets, probe.POSTGRES_SOCKET, told.postgres if told else None),
        redis=_ask("redis", sockets, probe.REDIS_SOCKET, told.redis if told else None),
        disk_bytes={part.name: _size(part) for part in sorted(folder.path.glob("*")) if part.is_dir()},
        users=_holders(folder.run / "users.lock"),
        error=told.error if told else "",
    )


def _ask(name: str, sockets: Path | None, socket: str, pid: int | None) -> ServerStatus:
    if sockets is None:
        return ServerStatus(None, None, None)
    try:
        version = probe.postgres(sockets) if name == "postgres" else probe.redis(sockets)
    except OSError:
        return ServerStatus(None, None, str(sockets / socket))
    return ServerStatus(version, pid, str(sockets / socket))


def _size(part: Path) -> int:
    total = 0
    for place, _, names in os.walk(part):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - a thousand files, twice as fast
            except OSError:  # gone meanwhile
                continue
    return total


def _holders(lock: Path) -> tuple[int, ...]:
    """Who holds a lock on the file, as /proc/locks tells: `1: FLOCK ADVISORY READ 4711 fe:00:131 0 EOF`."""
    try:
        inode = lock.stat().st_ino
        rows = [row.split() for row in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return ()
    return tuple(
        sorted({int(row[4]) for row in rows if row[1] == "FLOCK" and row[3] == "READ" and row[5].endswith(f":{inode}")})
    )
