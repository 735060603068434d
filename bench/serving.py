"""Real API processes on a private stack, each kind of process on the cores that it was given, and wrk, which asks them.

What is measured has the first core of the machine to itself; whoever asks, Postgres, Redis and the simulator of models share the
others. On a machine of two cores that is one: what they take they take from each other, not from what is measured. A ground that is
`shared` is as the product starts it: everything on all cores.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from common import private_stack
from pilotis.derive.plan import Env, Plan
from pilotis.embedded import Addresses
from pilotis.wiring import Settings, child_environ
from synthetic import BU

HERE = Path(__file__).parent
ROUNDS = 3
READY_S = 90.0

CONTRACT = """
name = "bench"

[envs.hit]
llm = "extractive"
cache_ttl_s = 3600

[envs.miss]
llm = "extractive"
cache_ttl_s = 0
"""

PAID = """
[envs.{name}]
llm = {{ model = "{model}", base_url = "{simulator}/v1" }}
cache_ttl_s = 3600

[envs.{name}.budgets]
env = {{ hour_eur = 100000, day_eur = 100000, month_eur = 100000 }}
bu = {{ hour_eur = 50000, day_eur = 50000, month_eur = 50000 }}

[costs.prices."{model}"]
input_per_mtok = 2
output_per_mtok = 8
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A server on the loopback, with its process."""

    url: str
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Processor time it has used until now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@dataclass(frozen=True, slots=True)
class Ground:
    """A stack, the processes on it, and where they run."""

    settings: Settings
    plan: Plan
    env: Env
    addresses: Addresses
    folder: Path
    first: set[int]
    others: set[int]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environ(self, env: str) -> dict[str, str]:
        """Of a process that serves `env`. OPENBLAS_CORETYPE picks another processor's arithmetic, and stays out."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTIS_", "OPENBLAS_CORETYPE"))}
        return own | child_environ(self.settings, self.plan, replace(self.env, name=env), self.addresses)

    def api(self, env: str, *, anew: bool = False) -> Process:
        """A ready API process on the first core; see bench/anew.py."""
        code = [str(HERE / "anew.py")] if anew else ["-m", "pilotis.api"]
        port = free_port()
        return self.start(*code, "--port", str(port), port=port, path="/readyz", env=env)

    def start(self, *arguments: str, port: int, path: str, env: str = "hit", on_first: bool = True, **also: Any) -> Process:
        """Run Python with these arguments until `path` answers, if only by an error of its own."""
        cores = self.first if on_first else self.others
        log = (self.folder / f"{port}.log").open("wb")
        command = [also.get("python", sys.executable), *arguments]
        environ = self.environ(env) | also.get("environ", {})
        # In a session of its own, as `pilotis up` starts it: the scheduler weighs sessions against each other.
        process = subprocess.Popen(
            on_cores(cores, command), env=environ, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
        )
        self.running.append(process)
        url = f"http://127.0.0.1:{port}"
        _until_ready(url + path, process, Path(log.name))
        return Process(url, process)

    def end(self, started: Process) -> None:
        started.process.terminate()
        started.process.wait(40)
        self.running.remove(started.process)

    def secret(self, env: str = "hit") -> str:
        command = [sys.executable, "-m", "pilotis", "--json", "--bu", BU, "keys", "create", "bench"]
        done = subprocess.run(command, env=self.environ(env), cwd=self.folder, check=True, capture_output=True, text=True)
        return str(json.loads(done.stdout)["secret"])

    def bodies(self, name: str, bodies: Sequence[dict[str, Any]]) -> Path:
        """A file of request bodies, one a line."""
        path = self.folder / name
        path.write_text("".join(json.dumps(body) + "\n" for body in bodies))
        return path

    def wrk(
        self, asked: Process, path: str, bodies: Path, key: str, *, connections: int, seconds: float, pause_ms: float = 0
    ) -> dict[str, float]:
        """What wrk says of `asked`: `rate` a second, `p50_ms`, `p95_ms`, `p99_ms`, `requests`; and `cpu_ms` of that process for each.

        Ends the program where a request failed.
        """
        url, began_s = f"{asked.url}{path}", asked.cpu_s()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(HERE / "wrk/post.lua")]
        command += [url, "--", str(bodies), key, f"{pause_ms:.0f}"]
        done = subprocess.run(on_cores(self.others, command), check=True, capture_output=True, text=True)
        said: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        if said["errors"] or not said["requests"]:
            sys.exit(f"{url}: {said}")
        cpu_ms = (asked.cpu_s() - began_s) * 1e3 / said["requests"]
        return said | {"rate": said["requests"] / said["seconds"], "cpu_ms": cpu_ms}


@contextmanager
def ground(*paid: str, simulator: str | None = None, shared: bool = False) -> Iterator[Ground]:
    """A private stack, this process included, on all cores but the first; each of the `paid` models of `simulator` is an env.

    Ends the program where there are no two cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("SKIPPED: one core cannot hold both who is measured and who measures")
    first, others = (set(cores), set(cores)) if shared else ({cores[0]}, set(cores[1:]))
    os.sched_setaffinity(0, others)
    contract = CONTRACT + "".join(PAID.format(name=model, model=model, simulator=simulator) for model in paid)
    with (
        private_stack(contract) as (given, plan, env, addresses),
        tempfile.TemporaryDirectory(prefix="pilotis-bench-") as folder,
    ):
        made = Ground(given, plan, env, addresses, Path(folder), first, others)
        try:
            yield made
        finally:
            for process in made.running:
                process.terminate()
            for process in made.running:
                process.wait(40)


@contextmanager
def simulator() -> Iterator[str]:
    """The address of bench/sim.py, on all cores but the first."""
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))
    process = subprocess.Popen(on_cores(set(cores[1:] or cores), [sys.executable, str(HERE / "sim.py"), "--port", str(port)]))
    url = f"http://127.0.0.1:{port}"
    try:
        _until_ready(f"{url}/billed", process, None)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def on_cores(cores: set[int], command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]


def require_wrk() -> None:
    """Ends the program where wrk is missing."""
    if shutil.which("wrk") is None:
        sys.exit("SKIPPED: wrk is not installed (on Debian and Ubuntu: apt-get install wrk)")


def middle(rounds: Sequence[dict[str, float]], name: str) -> float:
    return median(found[name] for found in rounds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path | None) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"ended with {process.returncode}: {log.read_text()[-3000:] if log else url}")
        try:
            urllib.request.urlopen(url, timeout=2).read()
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.1)
    sys.exit(f"{url} is not ready after {READY_S:.0f} s: {log.read_text()[-3000:] if log else ''}")
