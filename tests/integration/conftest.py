"""A real `pilotis up` in a process of its own, on a free port, over a data folder that lives as long as the module.

And a provider of models that costs nothing, for those who need answers that do.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
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

PAID = """
[envs.dev]
llm = {{ model = "mock-ttft20-itl20-len60", base_url = "{simulator}" }}
cache_ttl_s = 60

[envs.dev.budgets]
env = {{ hour_eur = 20 }}
bu = {{ hour_eur = 10 }}

[costs.prices."mock-ttft20-itl20-len60"]
input_per_mtok = 2
output_per_mtok = 8
"""


@dataclass
class Up:
    """A running `pilotis up`."""

    data: Path
    url: str
    process: subprocess.Popen[str]
    ready_s: float
    told: dict[str, Any]
    """What it said when it was ready."""

    def cli(self, *args: str) -> Any:
        """The JSON that `pilotis ARGS --json` prints, from another process over the same folder."""
        command = [sys.executable, "-m", "pilotis", "--data", str(self.data), "--json", *args]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environ(), cwd=self.data.parent, timeout=60, check=False
        )
        assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
        return json.loads(done.stdout)

    def key(self, bu: str) -> tuple[str, str]:
        """A new key of that business unit: its id and its secret."""
        made = self.cli("keys", "create", "test", "--bu", bu)
        return made["id"], made["secret"]

    def metric(self, name: str, **labels: str) -> float:
        """The sum over its series of that name that have these labels."""
        shown = httpx2.get(f"{self.url}/metrics", timeout=30).text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in shown.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in wanted))

    def resident_mb(self) -> float:
        """Of the API process."""
        (pid,) = self.pids("pilotis.api")
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

    def client(self, secret: str, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {secret}"}, timeout=60, **options)

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


def free_port(count: int = 1) -> int:
    """The first of so many free ports in a row, below those that the system gives to connections while `up` starts."""
    while True:
        first = secrets.randbelow(12_000) + 20_000
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(data: Path, *options: str, ports: int = 1, contract: str | None = None) -> Up:
    """Returns once `up` says it is ready; it gets the first of so many free ports."""
    command = [
        sys.executable,
        "-m",
        "pilotis",
        "up",
        "--data",
        str(data),
        "--port",
        str(free_port(ports)),
        "--json",
        *options,
    ]
    if contract is not None:
        (data.parent / "pilotis.toml").write_text(contract)
    began = time.monotonic()
    with (data.parent / "up.err").open("a") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ(), cwd=data.parent)
    assert process.stdout
    told = ""
    while not told.endswith("\n}\n"):
        line = process.stdout.readline()
        if not line:
            process.wait(60)
            process.stdout.close()
            pytest.fail((data.parent / "up.err").read_text())
        told += line
    said = json.loads(told)
    return Up(data, said["url"], process, time.monotonic() - began, said)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = start(tmp_path_factory.mktemp("up") / "data")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def start_up() -> Iterator[Callable[..., Up]]:
    """To start one that a test ends itself; what is left at the end of the module is stopped."""
    started: list[Up] = []

    def starts(data: Path, *options: str, **given: Any) -> Up:
        started.append(start(data, *options, **given))
        return started[-1]

    yield starts
    for running in started:
        if running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server of models that behave as their names say; see tests/mock_openai.py."""
    port = free_port()
    log = tmp_path_factory.mktemp("simulator") / "log"
    with log.open("w") as output:
        command = [sys.executable, str(Path(__file__).parents[1] / "mock_openai.py"), "--port", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 20
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def paid(tmp_path_factory: pytest.TempPathFactory, simulator: str) -> Iterator[Up]:
    """A service whose answers cost money, stream slowly and are limited by budgets."""
    contract = PAID.format(simulator=simulator)
    running = start(tmp_path_factory.mktemp("paid") / "data", contract=contract)
    try:
        yield running
    finally:
        running.stop()
