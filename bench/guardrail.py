"""The guardrail at work: a dear model trips the ladder step by step, and the service recovers when it is left alone.

    python bench/guardrail.py [--minutes 4]

A real `pilotis up`, a simulated model at a price above the contract's threshold (bench/sim.py), one question after the other. Each line
is a change, as the metric, the audit and the answers themselves tell it. The window is the shortest a contract may have, one minute.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

HERE = Path(__file__).parent
CACHE_ONLY = 4
"""Its place in the ladder of this contract."""
CONTRACT = """
[costs]
guardrail_eur_per_req = 0.01
guardrail_window_s = 60
guardrail_min_sample = 10

[envs.dev]
flags = ["hybrid", "rerank"]
llm = {{ model = "sim-read900-wrote250-len5", base_url = "{url}/v1" }}
reranker = {{ model = "sim-rerank", base_url = "{url}" }}
compact = {{ model = "sim-read700-wrote200-len3", base_url = "{url}/v1" }}
top_k = 10
compact_top_k = 3
cache_ttl_s = 300

[costs.prices."sim-read900-wrote250-len5"]
input_per_mtok = 10
output_per_mtok = 30

[costs.prices."sim-read700-wrote200-len3"]
input_per_mtok = 8
output_per_mtok = 30

[costs.prices."sim-rerank"]
per_1k_calls = 2
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=4.0, help="how long at most")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilotis-guardrail-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        port = free_port()
        simulator = subprocess.Popen([sys.executable, str(HERE / "sim.py"), "--port", str(port)])
        (Path(folder) / "pilotis.toml").write_text(CONTRACT.format(url=f"http://127.0.0.1:{port}"))
        try:
            run(Path(folder), minutes=given.minutes)
        finally:
            simulator.terminate()
            simulator.wait(10)


def run(folder: Path, *, minutes: float) -> None:
    port = free_port()
    up = subprocess.Popen(
        [*pilotis(folder), "--json", "up", "--port", str(port)], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        assert up.stdout
        said = ""
        while not said.endswith("\n}\n"):
            line = up.stdout.readline()
            assert line, "pilotis up did not start"
            said += line
        secret = told(folder, "keys", "create", "demo")["secret"]
        docs = Path(__file__).parents[1] / "docs"
        told(folder, "ingest", str(docs))
        with httpx2.Client(
            base_url=json.loads(said)["url"], headers={"authorization": f"Bearer {secret}"}, timeout=30
        ) as client:
            drive(client, folder, minutes=minutes)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


def drive(client: httpx2.Client, folder: Path, *, minutes: float) -> None:
    """Ask until only the cache answers, then leave it alone until the full service is back.

    The last step, `refuse`, is a person's: the cache alone costs nothing, so that nothing can be dear there.
    """
    began, step, highest = time.monotonic(), None, 0
    asked: dict[str, int] = {}
    print("  at   | step served          | metric | answers | the audit's last line")
    n = before = 0
    while time.monotonic() - began < 60 * minutes:
        level = metric(client, "rag_guardrail_level", 'scope="env"')
        highest = max(highest, level)
        n += 1
        served = ask(client, n) if highest < CACHE_ONLY or level == 0 else "(left alone)"
        asked[served] = asked.get(served, 0) + 1
        if (served, level) != step:
            step = (served, level)
            moves = told(folder, "guardrail", "status", "--last", "1")["moves"]
            last = f"{moves[0]['from_level'] or 0} > {moves[0]['to_level']}: {moves[0]['reason']}" if moves else ""
            print(f"{time.monotonic() - began:6.1f} | {served:20} | {level:6} | {asked[served]:7} | {last}", flush=True)
        if level == CACHE_ONLY > before:
            print(
                f"{time.monotonic() - began:6.1f} | a new question: {ask(client, 10**6)}; one that was asked before: {ask(client, 1)}"
            )
        before = level
        if highest == CACHE_ONLY and level == 0:
            print(f"back at the full service after {time.monotonic() - began:.0f} s: {ask(client, 10**6)}")
            return
        time.sleep(0.2 if served != "(left alone)" else 1.0)


def ask(client: httpx2.Client, n: int) -> str:
    response = client.post("/v1/ask", json={"question": f"How is the cost of answer number {n} computed?"})
    body = response.json()
    return str(body["step"]) if response.status_code == 200 else f"{response.status_code} {body['code']}"


def metric(client: httpx2.Client, name: str, label: str) -> int:
    """The highest of these series: who serves `env` serves everybody at its step at least."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return max((int(float(line.rsplit(" ", 1)[1])) for line in lines if label in line or "bu:" in line), default=0)


def pilotis(folder: Path) -> list[str]:
    return [sys.executable, "-m", "pilotis", "--data", str(folder / "data")]


def told(folder: Path, *args: str) -> Any:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PILOTIS_")}
    done = subprocess.run(
        [*pilotis(folder), "--json", *args], capture_output=True, text=True, cwd=folder, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
