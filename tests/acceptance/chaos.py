"""Kill whatever serves, at random, for minutes, while documents of all kinds come: each that was acknowledged must end, once, and nothing be left over.

    python tests/acceptance/chaos.py [--documents 2000] [--minutes 5] [--also FOLDER] [--seed 1]

Starts a service of its own over an empty data folder. Three business units send Markdown, HTML, CSV, JSON, DOCX and PDF, of which one in
ten is cut off, garbled or without text, and every file of FOLDER besides. Every few seconds one of the workers, the API, Redis, Postgres
or their guardian gets a SIGKILL. Then `pilotis doctor --deep` is asked. Exit code 1 where anything is lost, doubled or left over.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docx
import httpx2
from crash_drill import Town, environ  # type: ignore[import-not-found]  # it stands beside this script
from pypdf import PdfWriter

UNITS = ("north", "south", "west")
FAULTS = ("ingest", "embed", "upkeep", "api", "redis", "postgres", "guardian")
PAUSES_S = (1.5, 5.0)
MOST_A_MINUTE = 3
"""Of one kind: what keeps dying is given up, on purpose, after five within a minute."""
SETTLE_S = 900.0


class Sender:
    """One business unit: repeats what was not acknowledged, and remembers what was."""

    def __init__(self, town: Any, bu: str) -> None:
        self.bu = bu
        self.acknowledged: dict[str, str] = {}
        """By name: the document's id."""
        self.refused: Counter[str] = Counter()
        self._http = httpx2.Client(base_url=town.url, headers={"authorization": f"Bearer {town.key(bu)}"}, timeout=60)

    def send(self, name: str, content: bytes) -> None:
        ends = time.monotonic() + SETTLE_S
        while time.monotonic() < ends:
            try:
                answer = self._http.post("/v1/documents", files={"file": (name, content)})
            except httpx2.TransportError:
                time.sleep(0.3)
                continue
            if answer.status_code == 202:
                self.acknowledged[name] = answer.json()["documents"][0]["id"]
                return
            if answer.status_code < 500 and answer.status_code != 429:
                self.refused[answer.json()["code"]] += 1
                return
            time.sleep(0.3)
        raise TimeoutError(name)

    def states(self) -> dict[str, list[tuple[str, str, str | None]]]:
        """By name: id, state and error of each document there is."""
        found: dict[str, list[tuple[str, str, str | None]]] = {}
        after = None
        while True:
            page = self._http.get("/v1/documents", params={"limit": 1000} | ({"after": after} if after else {})).json()
            for one in page["documents"]:
                found.setdefault(one["name"], []).append((one["id"], one["state"], one["error"]))
            after = page["next"]
            if after is None:
                return found


def made(chance: random.Random, n: int) -> Iterator[tuple[str, bytes]]:
    """Files of every kind; one in ten is not what its name says."""
    for i in range(n):
        kind = chance.choice(("md", "md", "html", "csv", "json", "docx", "pdf"))
        content = _content(kind, i, chance)
        match chance.randrange(30):
            case 0:
                content = content[: max(1, len(content) // 2)]
            case 1:
                content = bytes(chance.randrange(256) for _ in range(2000))
            case 2:
                content = b" \n"
        yield f"{kind}/{i:05}.{kind}", content


def _content(kind: str, i: int, chance: random.Random) -> bytes:
    lines = [f"Toll {chance.randrange(10**6)} at mile {n} of road {i} is {chance.randrange(100)} coins." for n in range(8)]
    match kind:
        case "html":
            return ("<h1>Road</h1>" + "".join(f"<p>{line}</p>" for line in lines)).encode()
        case "csv":
            return "\n".join(["mile,coins", *(f"{n},{line}" for n, line in enumerate(lines))]).encode()
        case "json":
            return json.dumps({"road": i, "tolls": lines}).encode()
        case "docx":
            written, document = io.BytesIO(), docx.Document()
            for line in lines:
                document.add_paragraph(line)
            document.save(written)
            return written.getvalue()
        case "pdf":
            written, pdf = io.BytesIO(), PdfWriter()
            pdf.add_blank_page(200, 200)
            pdf.write(written)
            return written.getvalue()
        case _:
            return f"# Road {i}\n\n{' '.join(lines)}\n".encode()


def chaos(town: Any, chance: random.Random, ended: threading.Event) -> Counter[str]:
    """Kill until told to end."""
    killed: Counter[str] = Counter()
    lately: dict[str, deque[float]] = {fault: deque() for fault in FAULTS}
    while not ended.wait(chance.uniform(*PAUSES_S)):
        now = time.monotonic()
        for moments in lately.values():
            while moments and now - moments[0] > 60:
                moments.popleft()
        fault = chance.choice(FAULTS)
        if len(lately[fault]) >= MOST_A_MINUTE:
            continue
        with contextlib.suppress(OSError):
            if _kill(town, fault):
                killed[fault] += 1
                lately[fault].append(now)
    return killed


def _kill(town: Any, fault: str) -> bool:
    import os
    import signal

    if fault not in {"ingest", "embed", "upkeep"}:
        return bool(town.kill(fault, 0))
    pids = town.running("pilotis.tasks", fault)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def settled(senders: list[Sender], within_s: float) -> bool:
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        with contextlib.suppress(httpx2.HTTPError, KeyError, ValueError):
            states = [one[1] for sender in senders for ones in sender.states().values() for one in ones]
            if states and set(states) <= {"indexed", "failed"}:
                return True
        time.sleep(1)
    return False


def run(folder: Path, *, documents: int, minutes: float, also: Path | None, seed: int) -> dict[str, Any]:
    chance, town, ended = random.Random(seed), Town(folder), threading.Event()
    town.start()
    try:
        senders = [Sender(town, bu) for bu in UNITS]
        files = list(made(chance, documents))
        files += (
            [(f"also/{path.name}", path.read_bytes()) for path in sorted(also.rglob("*")) if path.is_file()] if also else []
        )
        chance.shuffle(files)
        killed: list[Counter[str]] = []
        killer = threading.Thread(target=lambda: killed.append(chaos(town, random.Random(seed), ended)))
        began = time.monotonic()
        killer.start()
        with ThreadPoolExecutor(3) as pool:
            sent = [pool.submit(senders[n % len(senders)].send, *file) for n, file in enumerate(files)]
            time.sleep(max(0.0, minutes * 60 - (time.monotonic() - began)))
            ended.set()
            killer.join()
            for one in sent:
                one.result()
        is_settled = settled(senders, SETTLE_S)
        return _looked(town, senders) | {
            "kills": dict(killed[0]),
            "settled": is_settled,
            "seconds": round(time.monotonic() - began, 1),
        }
    finally:
        town.stop()


def _looked(town: Any, senders: list[Sender]) -> dict[str, Any]:
    wrong: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for sender in senders:
        states = sender.states()
        for name, identity in sender.acknowledged.items():
            ones = states.get(name, [])
            wrong["lost"] += identity not in {one[0] for one in ones}
            wrong["doubled"] += len(ones) > 1
            wrong["failed without a reason"] += any(state == "failed" and not error for _, state, error in ones)
            found.update(state for _, state, _ in ones)
    command = [sys.executable, "-m", "pilotis", "--data", str(town.data), "--json", "doctor", "--deep"]
    told = subprocess.run(
        command, capture_output=True, text=True, env=environ(), cwd=town.data.parent, check=False, timeout=300
    )
    deep = json.loads(told.stdout)["deep"]
    wrong.update({check["check"]: check["count"] for check in deep if check["state"] == "error"})
    wrong["deep checks missing"] += not deep
    return {
        "acknowledged": sum(len(sender.acknowledged) for sender in senders),
        "refused": dict(sum((sender.refused for sender in senders), Counter())),
        "found": dict(found),
        "wrong": {what: n for what, n in wrong.items() if n},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--also", type=Path, help="a folder whose files are sent too")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilotis-chaos-") as folder:
        (Path(folder) / "pilotis.toml").write_text(
            '[costs]\ntarget_eur_per_1k = 50\nguardrail_eur_per_req = 1\n\n[envs.dev]\nllm = "extractive"\n'
        )
        found = run(Path(folder), documents=asked.documents, minutes=asked.minutes, also=asked.also, seed=asked.seed)
    print(json.dumps(found, indent=2))
    return 0 if found["settled"] and not found["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
