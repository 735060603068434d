"""Another model and other passages, built beside a service that is asked all the while, switched to, and back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from integration.conftest import Up

BEFORE = """
[costs]
target_eur_per_1k = 50
guardrail_eur_per_req = 1

[envs.dev]
llm = "extractive"
cache_ttl_s = 0
"""
AFTER = """
[costs]
target_eur_per_1k = 50
guardrail_eur_per_req = 1

[perf]
passage_tokens = 40

[envs.dev]
llm = "extractive"
cache_ttl_s = 0
embedder = {{ model = "mock-dim16", base_url = "{simulator}", dimension = 16 }}

[envs.dev.budgets]
env = {{ hour_eur = {budget} }}

[costs.prices."mock-dim16"]
input_per_mtok = 100
"""


def text(n: int, stone: str = "granite") -> str:
    parts = (
        f"# Part {k}\n\nBridge number{n} is made of {stone} at mile {k}. Crossing it is free on Sundays.\n" for k in range(6)
    )
    return f"# Bridge {n}\n\n" + "\n".join(parts)


def send(client: httpx2.Client, name: str, content: str) -> str:
    sent = client.post("/v1/documents", files={"file": (name, content.encode(), "text/markdown")})
    assert sent.status_code == 202, sent.text
    return str(sent.json()["documents"][0]["id"])


def indexed(client: httpx2.Client, ids: list[str]) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        states = Counter(client.get(f"/v1/documents/{one}").json()["state"] for one in ids)
        if states == {"indexed": len(ids)}:
            return
        assert "failed" not in states
        time.sleep(0.1)
    raise AssertionError(states)


@contextmanager
def asked_all_the_while(up: Up, secret: str) -> Iterator[Counter[Any]]:
    """What clients are told who ask without a pause."""
    told: Counter[Any] = Counter()
    ended = threading.Event()

    def ask(n: int) -> None:
        with up.client(secret) as client:
            while not ended.is_set():
                answer = client.post("/v1/ask", json={"question": f"What is bridge number{n} made of?"})
                told[answer.status_code, answer.json().get("found"), answer.json().get("code")] += 1
                time.sleep(0.05)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def searched(up: Up, number: int) -> None:
    """Wait until the process has followed the switch."""
    ends = time.monotonic() + 20
    log = up.data / "logs"
    while time.monotonic() < ends:
        if any(f"generation {number} is searched from now on" in path.read_text() for path in log.glob("*.log")):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody followed the switch to {number}")


def test_another_model_is_switched_to_and_back_while_questions_come(
    tmp_path: Path, start_up: Callable[..., Up], simulator: str
) -> None:
    up = start_up(tmp_path / "data", contract=BEFORE)
    _, secret = up.key("north")
    with up.client(secret) as client:
        ids = [send(client, f"{n}.md", text(n)) for n in range(8)]
        indexed(client, ids)
        contract = tmp_path / "pilotis.toml"
        contract.write_text(AFTER.format(simulator=simulator, budget="0.06"))
        with asked_all_the_while(up, secret) as told:
            stopped = up_cli(up, "index", "build", code=1)
            assert "a budget is spent" in stopped
            contract.write_text(AFTER.format(simulator=simulator, budget="5"))
            built = up.cli("index", "build")
            assert built["generation"] == 2
            assert 0 < built["documents"] < 8, "what was built before the budget was spent is not built again"
            changed = send(client, "0.md", text(0, "steel"))
            assert changed == ids[0]
            indexed(client, [changed])
            assert up.cli("index", "switch") == {"before": 1, "now": 2}
            searched(up, 2)
            late = send(client, "late.md", text(99, "basalt"))
            indexed(client, [late])
            standings = {one["generation"]["id"]: one for one in up.cli("index", "status")}
            assert (standings[2]["generation"]["state"], standings[1]["generation"]["state"]) == ("active", "retired")
            assert standings[2]["passages"] > standings[1]["passages"]
            assert standings[1]["left"] == 1, "what came since is not in the one of before"
            answer = client.post("/v1/ask", json={"question": "What is bridge number0 made of?"})
            assert "steel" in answer.json().get("answer", ""), (answer.text, told)
            client.delete(f"/v1/documents/{ids[7]}")
            assert up.cli("index", "rollback") == {"before": 2, "now": 1}
            searched(up, 1)
        assert {(status, found) for status, found, _ in told} == {(200, True)}, told
        answer = client.post("/v1/ask", json={"question": "What is bridge number99 made of?"}).json()
        assert "basalt" in answer["answer"]
        hits = client.post("/v1/search", json={"question": "bridge number7", "top_k": 20}).json()["passages"]
        assert hits
        assert "7.md" not in {hit["document"] for hit in hits}
    checks = up.cli("doctor", "--deep")
    assert not [check for check in checks["deep"] if check["state"] == "error"], checks
    assert up.cli("index", "drop", "2", "--yes")["passages"] > 0
    assert [one["generation"]["id"] for one in up.cli("index", "status")] == [1]


def up_cli(up: Up, *args: str, code: int) -> str:
    """What it says on stderr, where it ends with `code`."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "pilotis", "--data", str(up.data), "--json", *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=up.data.parent, timeout=60, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stderr
