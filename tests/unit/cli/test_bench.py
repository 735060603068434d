"""`pilotis bench capacity` against a small server on the loopback, and `pilotis size --measured` after it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pilotis.cli import bench, load, run
from pilotis.errors import Invalid

METRICS = """# HELP process_cpu_seconds_total Processor time.
process_start_time_seconds 1.7e+09
process_cpu_seconds_total {cpu}
rag_requests_total{{kind="ask",outcome="answered"}} {asked}
rag_requests_total{{kind="ask",outcome="refused"}} 2.0
"""


class Api(ThreadingHTTPServer):
    """One answer at a time, each in `busy_s`: twice the callers bring nothing."""

    daemon_threads = True
    busy_s = 0.01
    status = 200
    cost = "0"
    metrics = True
    share = 1
    """One of so many processes answers `/metrics`, and counts its share."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.questions: list[str] = []
        self.keys: set[str | None] = set()
        self.turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.turn:
            time.sleep(self.server.busy_s)
            self.server.questions.append(body["question"])
            self.server.keys.add(self.headers["x-api-key"])
        ok = self.server.status == 200
        self.say(json.dumps({"found": True} if ok else {"detail": "too many", "remedy": "wait"}).encode(), self.server.status)

    def do_GET(self) -> None:
        asked = len(self.server.questions) / self.server.share
        self.say(METRICS.format(cpu=asked * 0.005, asked=asked).encode(), 200 if self.server.metrics else 404)

    def say(self, data: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-rag-cost-eur", self.server.cost)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PILOTIS_CONTRACT", "PILOTIS_ENV", "PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILOTIS_KEY", "a-key")
    monkeypatch.setenv("PILOTIS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def measure(api: Api, *also: str) -> int:
    return run(["bench", "capacity", "--url", api.url, "--seconds", "1", *also])


def test_it_measures_keeps_and_sizes(api: Api, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(api) == 0
    shown = capsys.readouterr()
    assert "← knee" in shown.out
    assert "ms in service" in shown.out
    assert "1 at once" in shown.err
    kept = json.loads((data / "capacity.json").read_text())
    assert (data / "VERSION").exists()  # else the servers would refuse the folder as somebody else's
    callers = [step["callers"] for step in kept["steps"]]
    assert callers == [1, 2, 4, 8, 16, 32][: len(callers)]
    assert len(callers) >= 2
    assert 20 < kept["knee"]["rps"] < 101
    assert kept["knee"]["p95_ms"] >= 10
    assert kept["rps_per_vcpu"] == "200.000"  # 5 ms of processor each, by the counters
    assert {step["processes"] for step in kept["steps"]} == {1}
    assert api.keys == {"a-key"}
    assert len(set(api.questions)) == len(api.questions)

    assert run(["size", "--rps", "1000", "--measured", "--json"]) == 0
    sized = json.loads(capsys.readouterr().out)
    # One process served under 101/s, so that its pods, and not their vCPUs, are what 1000/s need: 1000 / (100 x 0.7) at least.
    assert sized["api_pods"] >= 15
    assert sized["source"].startswith(f"measured {kept['date'][:10]} on {kept['cores']} vCPUs")
    assert float(sized["headroom"]) >= 0.42
    assert run(["size", "--rps", "1000", "--measured"]) == 0
    assert "headroom: " in capsys.readouterr().out


def test_a_share_of_the_counts_tells_the_processes_and_silence_the_machine(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.share = 3
    assert measure(api, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"][0]["processes"] == 3
    api.metrics = False
    assert measure(api, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rps_per_process"] is None
    assert found["basis"] == f"all {found['cores']} vCPUs of the machine"


def test_what_costs_money_stops_unless_it_may(api: Api, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.cost = "0.001"
    assert measure(api) == 1
    assert "--max-eur" in capsys.readouterr().err
    assert len(api.questions) == 1
    assert not data.exists()
    assert measure(api, "--max-eur", "5", "--json") == 0
    assert float(json.loads(capsys.readouterr().out)["spent_eur"]) > 0.01


def test_a_refusal_ends_it_with_its_remedy(api: Api, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.status = 429
    assert measure(api) == 1
    said = capsys.readouterr().err
    assert "429: too many" in said
    assert "→ wait" in said
    assert not data.exists()


def test_a_failure_in_the_middle_of_a_step_ends_it(api: Api) -> None:
    target = load.Target(url=api.url, key="k", questions=("q",), nonce="n")

    def fail(gone: float) -> None:
        if gone > 0.2:
            api.status = 503

    with pytest.raises(Invalid, match="503"):
        load.step(target, 2, 30, fail)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com", "not this machine"),
        ("http://10.0.0.1:8080", "not this machine"),
        ("http://localhost.example.com", "not this machine"),
        ("http://127.0.0.1@example.com", "no address"),
        ("ftp://127.0.0.1", "no address"),
        ("127.0.0.1:8080", "no address"),
        ("http://127.0.0.1:99999", "no address"),
    ],
)
def test_another_machine_is_not_loaded(url: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "capacity", "--url", url]) == 1
    assert said in capsys.readouterr().err


def test_addresses() -> None:
    assert bench.address("http://[::1]:80/v1/", elsewhere=False) == "http://[::1]:80"
    assert bench.address("http://127.1.2.3", elsewhere=False) == "http://127.1.2.3"
    assert bench.address("https://rag.example.com", elsewhere=True) == "https://rag.example.com"


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("PILOTIS_KEY")
    assert run(["bench", "capacity"]) == 2
    assert "pilotis keys create" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"steps": 1}'])
def test_size_needs_a_measurement_that_can_be_read(text: str | None, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if text is not None:
        data.mkdir()
        (data / "capacity.json").write_text(text)
    assert run(["size", "--rps", "120", "--measured"]) == 2
    assert "→ measure: pilotis bench capacity" in capsys.readouterr().err


def test_two_capacities_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["size", "--rps", "120", "--measured", "--rps-per-vcpu", "9"]) == 1
    assert "two capacities" in capsys.readouterr().err
