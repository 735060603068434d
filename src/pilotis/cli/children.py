"""The processes that `up` and `demo` keep running: started, watched, restarted where one dies, ended together."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pilotis.cli.logfile import bound
from pilotis.cli.output import note
from pilotis.errors import SetupError

GRACE_S = 10.0
"""How long a child may take to finish what it is doing once asked to end."""
MAX_DEATHS = 5
DEATHS_WITHIN_S = 60.0
PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """One process, by the name that messages use."""

    name: str
    command: Sequence[str]
    end_with: signal.Signals = signal.SIGTERM
    """What asks it to end."""
    grace_s: float = GRACE_S
    inherits: tuple[int, ...] = ()
    """Open descriptors that it gets."""
    account: tuple[int, int] | None = None
    """The uid and gid it runs as; None for our own."""
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        """Of the one that runs now."""
        return self.process.pid if self.process else None


class Children:
    """Use as a context manager: leaving it ends all of them, asked first, forced once their time is over.

    They are told by the kernel when this process dies, whichever way, so none is left behind.
    """

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._environ = dict(environ)
        self._children: list[Child] = []
        self._output: IO[bytes] | None = None
        self._said_before = 0

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        bound(self.log)
        self._output = self.log.open("ab")
        self._said_before = self._output.tell()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
        if self._output:
            self._output.close()

    def start(self, name: str, *module: str, grace_s: float = GRACE_S) -> Child:
        """Run `python -P -m MODULE ARGUMENTS`: with -P, a file json.py in the folder a user works in is not taken for ours."""
        return self.run(Child(name, (sys.executable, "-P", "-m", *module), grace_s=grace_s))

    def run(self, child: Child) -> Child:
        """Start it, and start it again whenever it dies."""
        self._spawn(child)
        self._children.append(child)
        return child

    def watch(self) -> None:
        """Restart what died, and keep the log within bounds. Raises SetupError where a child keeps dying."""
        if bound(self.log):
            self._said_before = 0
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            now = time.monotonic()
            child.deaths = [*(at for at in child.deaths if now - at < DEATHS_WITHIN_S), now]
            if len(child.deaths) >= MAX_DEATHS:
                raise SetupError(
                    f"{child.name} ended {MAX_DEATHS} times within a minute", remedy=f"its last words are in {self.log}"
                )
            note(f"{child.name} ended ({_how(child.process.returncode)}); starting it again")
            self._spawn(child)

    def failed_to_start(self, child: Child) -> str | None:
        """The last words of a child that is gone, None while it lives."""
        if child.process is None or child.process.poll() is None:
            return None
        with self.log.open("rb") as log:
            log.seek(self._said_before)  # what an earlier run wrote explains nothing
            lines = log.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-3:])

    def end(self) -> None:
        """Ask all to end, wait for them together, force those that do not."""
        living = [(child, child.process) for child in self._children if child.process and child.process.poll() is None]
        asked = time.monotonic()
        for child, process in living:
            process.send_signal(child.end_with)
        for child, process in living:
            try:
                process.wait(max(0.0, asked + child.grace_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._children.clear()

    def _spawn(self, child: Child) -> None:
        # A group of its own: Ctrl-C reaches us alone, and we end the children in order. preexec_fn is safe here: no threads yet.
        child.process = subprocess.Popen(  # noqa: S603 - our own modules
            child.command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
            pass_fds=child.inherits,
            **_as(child.account),
        )


def _as(account: tuple[int, int] | None) -> dict[str, Any]:
    if account is None:
        return {}
    uid, gid = account
    return {"user": uid, "group": gid, "extra_groups": [], "cwd": "/"}  # where we are, it may not be allowed to look


def die_with_parent() -> None:
    """Called in a child before it becomes another program: it is asked to end as its parent does, however that ends (Linux only)."""
    # After the change of account, which would clear it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
