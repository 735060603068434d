"""A real `pilotis up` in a process of its own, on a free port, over a data folder that lives as long as the module."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

READY_S = 60


@dataclass
class Up:
    """A running `pilotis up`."""

    data: Path
    url: str
    process: subprocess.Popen[str]
    ready_s: float

    def cli(self, *args: str) -> Any:
        """The JSON that `pilotis ARGS --json` prints, from another process over the same folder."""
        command = [sys.executable, "-m", "pilotis", "--data", str(self.data), "--json", *args]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environ(), cwd=self.data.parent, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def key(self, bu: str) -> tuple[str, str]:
        """A new key of that business unit: its id and its secret."""
        made = self.cli("keys", "create", "test", "--bu", bu)
        return made["id"], made["secret"]

    def client(self, secret: str) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {secret}"}, timeout=60)

    def pids(self, module: str) -> list[int]:
        """The processes of this service that run `python -m MODULE`; all that know its data folder for "" ."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                told = (folder / "environ").read_bytes().decode(errors="replace") + command
                if str(self.data) in told and (not module or module in command.split("\0")):
                    found.append(int(folder.name))
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(40)
        if self.process.stdout:
            self.process.stdout.close()
        return code


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PILOTIS_")}


def start(data: Path) -> Up:
    """Returns once `up` says it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pilotis", "up", "--data", str(data), "--port", str(port), "--json"]
    began = time.monotonic()
    with (data.parent / "up.err").open("a") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ(), cwd=data.parent)
    assert process.stdout
    told = ""
    while "}" not in told:
        line = process.stdout.readline()
        assert line, (data.parent / "up.err").read_text()
        told += line
    return Up(data, json.loads(told)["url"], process, time.monotonic() - began)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = start(tmp_path_factory.mktemp("up") / "data")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def start_up() -> Iterator[Callable[[Path], Up]]:
    """To start one that the test ends itself; what is left at the end of the test is stopped."""
    started: list[Up] = []

    def starts(data: Path) -> Up:
        started.append(start(data))
        return started[-1]

    yield starts
    for running in started:
        if running.process.poll() is None:
            running.stop()
