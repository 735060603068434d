"""A `pilotis up` of its own over one data folder: started, asked, killed in parts, started again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from pilotis import cli, embedded
from pilotis.embedded import processes

READY_S = 90.0
PARTS = ("ingest", "embed", "upkeep", "api", "redis", "postgres", "guardian")
"""What can be killed in a town, besides `up` itself."""


class Town:
    """A `pilotis up` over one data folder, on one port, which is started again where it was killed."""

    def __init__(self, folder: Path, contract: str | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        if contract is not None:
            (folder / "pilotis.toml").write_text(contract)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.up: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it says that it is ready."""
        command = [sys.executable, "-m", "pilotis", "up", "--data", str(self.data), "--port", str(self.port), "--json"]
        told = self.folder / "up.out"
        deadline = time.monotonic() + READY_S
        while True:
            with told.open("wb") as out, (self.folder / "up.err").open("ab") as err:
                self.up = subprocess.Popen(command, stdout=out, stderr=err, cwd=self.folder, env=environ())
            while self.up.poll() is None and not told.read_bytes().endswith(b"\n}\n"):
                time.sleep(0.05)
            if self.up.poll() is None:
                return
            # What was killed with it may hold the port for a moment yet.
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "up.err").read_text()[-2000:])
            time.sleep(0.5)

    def stop(self) -> None:
        if self.up and self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)  # a shell in the background leaves SIGINT ignored
            self.up.wait(60)

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
        """The JSON that `pilotis ARGUMENTS --json` prints. Raises RuntimeError with its words for another exit code.

        In this process, which has Python's imports behind it.
        """
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = cli.run(["--data", str(self.data), "--json", *arguments])
        if ended not in codes:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {ended}\n{out.getvalue()}{err.getvalue()}")
        return json.loads(out.getvalue())

    def key(self, bu: str) -> str:
        return str(self.run("keys", "create", "drill", "--bu", bu)["secret"])

    def pids(self, part: str) -> list[int]:
        """The processes that make up one of PARTS: Postgres' backends come behind its postmaster. Those of this folder alone."""
        match part:
            case "api":
                return self._running("pilotis.api")
            case "guardian":
                found = embedded.status(self.data).guardian
                return [] if found is None else [found]
            case "redis":
                return processes.serving(self.data / "redis", "redis-server", str(self.data))
            case "postgres":
                serving = processes.serving(self.data / "postgres", "postgres", str(self.data))
                return sorted(serving, key=lambda pid: (parent(pid) in serving, pid))
            case _:
                return self._running("pilotis.tasks", part)

    def everything(self) -> list[int]:
        """Whatever runs for this folder."""
        found = [pid for part in ("redis", "postgres", "guardian") for pid in self.pids(part)]
        return [*found, *self._running()]

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        found = embedded.status(self.data).postgres.socket
        if found is None:
            raise ConnectionError("the servers are not up")
        sockets = Path(found).parent
        with psycopg.connect(f"postgresql://pilotis@/pilotis?host={sockets}", connect_timeout=5) as connection:
            yield connection

    def _running(self, *arguments: str) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_text(errors="replace").split("\0")
                told = (folder / "environ").read_text(errors="replace").split("\0")
                if f"PILOTIS_DATA={self.data}" in told and all(argument in command for argument in arguments):
                    found.append(int(folder.name))
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PILOTIS_")}


def parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def command(pid: int) -> str:
    """Its number and what it runs."""
    with contextlib.suppress(OSError):
        return f"{pid} " + Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    return str(pid)


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(holds: Callable[[], bool], within_s: float, *, every_s: float = 0.05) -> bool:
    """Whether it held before the time was over: what is missing then shows in the table."""
    deadline = time.monotonic() + within_s
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return held


def note(what: str) -> None:
    """Tell whoever watches how far it is."""
    print(f"{time.strftime('%T')} {what}", file=sys.stderr, flush=True)


def aligned(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A table of text."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    sides = [all(isinstance(row[column], int | float) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in lines
    )
