"""Is a port free, and if not, who holds it."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from pilotis.errors import SetupError


def require_free(host: str, port: int) -> None:
    """Raises SetupError, naming the process that listens there where the system tells."""
    if not 1 <= port <= 65_535:
        raise SetupError(f"{port} is not a port", remedy="choose one from 1 to 65535: --port 8080")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers bind: a port that only lingers after its server ended counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                held = holder(port)
                by = f" by {held}" if held else ""
                raise SetupError(f"port {port} on {host} is in use{by}", remedy=f"choose another: --port {port + 1}") from error
            if error.errno == errno.EACCES:
                raise SetupError(
                    f"port {port} may not be opened by this user", remedy="choose one above 1023: --port 8080"
                ) from error
            raise SetupError(f"cannot listen on {host}: {error.strerror or error}", remedy="--host 127.0.0.1") from error


def holder(port: int) -> str | None:
    """The process that listens on `port`, as "name (pid 123)"; None where the system does not tell."""
    inodes = _listening(port)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (folder / "fd").iterdir():
                if descriptor.readlink().name in inodes:
                    return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
        except OSError:
            continue
    return None


def _listening(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found
