"""Real Prometheus and Alertmanager on what is rendered, against a running service: alerts fire under load, are told, and end.

Two things differ from what is rendered: questions are asked each second, and no alert waits (`for` is 0), since the test has no quarter
of an hour. Expressions, windows of 1 minute to 6 hours, thresholds and samples are those that are rendered.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render.files import scene, to_yaml
from pilotis.render.monitoring.alertmanager import alertmanager
from pilotis.render.monitoring.dashboards import dashboards
from pilotis.render.monitoring.prometheus import prometheus
from pilotis.render.monitoring.rules import rule_groups

ROOT = Path(__file__).parents[3]
MODEL = "sim-read900-wrote250-len5"
CONTRACT = """
[costs]
guardrail_eur_per_req = 0.01
guardrail_window_s = 60
guardrail_min_sample = 10
ladder = ["cache_only"]

[envs.dev]
flags = ["hybrid"]
llm = {{ model = "{model}", base_url = "{url}/v1" }}
cache_ttl_s = 300
budgets = {{ env = {{ hour_eur = 1000, month_eur = 10000 }} }}

[costs.prices."{model}"]
input_per_mtok = 10
output_per_mtok = 30
"""
DEAR, FAILED, WELL = 30, 60, 1800
"""Questions: enough to be dear, to burn the budget of errors, and then to be well again."""


@pytest.mark.timeout(240)
def test_alerts_fire_are_told_and_end(tmp_path: Path) -> None:
    for program in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not there")
    sim_port, api_port, prom_port, am_port = (free_port() for _ in range(4))
    text = CONTRACT.format(url=f"http://127.0.0.1:{sim_port}", model=MODEL)
    (tmp_path / "pilotis.toml").write_text(text)
    tmp_path.chmod(0o755)
    (tmp_path / "note.md").write_text("# Costs\n\nThe cost of an answer is the sum of what its tokens cost.\n")
    watch(tmp_path, api_port, am_port)
    sim = [sys.executable, str(ROOT / "bench" / "sim.py"), "--port", str(sim_port)]
    am = ["prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/am"]
    am += [f"--web.listen-address=127.0.0.1:{am_port}", "--cluster.listen-address="]
    prom = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb"]
    prom += [f"--web.listen-address=127.0.0.1:{prom_port}"]
    with started(tmp_path, api_port) as client, running(tmp_path, am), running(tmp_path, prom):
        wait_for(lambda: query(prom_port, "rag_contract_info"), "Prometheus sees the service")
        for n in range(FAILED):
            ask(client, f"What does the failed answer number {n} cost?")
        wait_for(lambda: "ErrorBudgetBurnFast" in told(am_port), "the error alert is told")
        with running(tmp_path, sim):
            wait_for(lambda: ask(client, "How is the cost of answer number 0 computed?") == 200, "the model is back")
            for n in range(DEAR):
                ask(client, f"How is the cost of answer number {n} computed?")
            wait_for(lambda: "CostPerRequestOverGuardrail" in told(am_port), "the cost alert is told")
            for n in range(WELL):
                ask(client, f"How is the cost of answer number {n % 10} computed?")
            wait_for(lambda: "ErrorBudgetBurnFast" not in told(am_port), "the error alert ends", 60)
            wait_for(lambda: "CostPerRequestOverGuardrail" not in told(am_port), "the cost alert ends", 90)
        wait_for(lambda: not silent(prom_port, tmp_path), "every panel has data", 45)


def watch(folder: Path, api_port: int, am_port: int) -> None:
    """Write what is rendered, with the two differences."""
    on = scene(derive(load.load(folder / "pilotis.toml")))
    site = on.sites["dev"]
    (folder / "rules").mkdir()
    rules = re.sub(r"for: \w+", "for: 0s", to_yaml({"groups": rule_groups(on, site)}))
    (folder / "rules" / "all.yml").write_text(rules)
    api = {"static_configs": [{"targets": [f"127.0.0.1:{api_port}"]}]}
    (folder / "prometheus.yml").write_text(to_yaml(prometheus(site, api=api, alertmanager=f"127.0.0.1:{am_port}", every="1s")))
    (folder / "alertmanager.yml").write_text(to_yaml(alertmanager(site)))


def silent(port: int, folder: Path) -> list[str]:
    """Panels' questions to which Prometheus has no answer."""
    on = scene(derive(load.load(folder / "pilotis.toml")))
    asked = {
        target["expr"]
        for board in dashboards(on, on.sites["dev"]).values()
        for panel in board["panels"]
        for target in panel["targets"]
    }
    return sorted(expr for expr in asked if not query(port, expr))


def query(port: int, expr: str) -> list[Any]:
    try:
        found = httpx2.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": expr}, timeout=5).json()
    except (httpx2.HTTPError, ValueError):
        return []
    assert found["status"] == "success", (expr, found)
    return list(found["data"]["result"])


def told(port: int) -> set[str]:
    alerts = httpx2.get(f"http://127.0.0.1:{port}/api/v2/alerts", params={"active": "true"}, timeout=5).json()
    return {alert["labels"]["alertname"] for alert in alerts}


def ask(client: httpx2.Client, question: str) -> int:
    return client.post("/v1/ask", json={"question": question}).status_code


def wait_for(seen: Callable[[], object], what: str, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"not after {seconds:.0f} s: {what}"
        time.sleep(0.5)


@contextmanager
def running(folder: Path, command: list[str]) -> Iterator[None]:
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def started(folder: Path, port: int) -> Iterator[httpx2.Client]:
    pilotis = [sys.executable, "-m", "pilotis", "--data", str(folder / "data"), "--json"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PILOTIS_")}
    with (folder / "up.log").open("wb") as log:
        up = subprocess.Popen([*pilotis, "up", "--port", str(port)], stdout=log, stderr=log, cwd=folder, env=environ)
    try:
        wait_for(lambda: ready(port), "the service is ready", 60)
        made = subprocess.run([*pilotis, "keys", "create", "x"], cwd=folder, env=environ, capture_output=True, check=True)
        subprocess.run([*pilotis, "ingest", "note.md"], cwd=folder, env=environ, capture_output=True, check=True)
        head = {"authorization": f"Bearer {json.loads(made.stdout)['secret']}"}
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=head, timeout=30) as client:
            yield client
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


def ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
