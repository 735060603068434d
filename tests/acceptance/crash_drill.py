"""Kill each part of a running `pilotis up` while documents are uploaded: every acknowledged one must be there, once.

    python tests/acceptance/crash_drill.py [--files 500] [--faults workers api postgres redis guardian up]

Starts a service of its own over an empty data folder, sends small distinct Markdown files over HTTP as a client that repeats what
was not acknowledged, and kills with SIGKILL at random moments. Then it asks the API and the database. Exit code 1 where
anything is lost, doubled or inconsistent.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from pilotis import embedded
from town import READY_S, Town, aligned, kill, until

SETTLE_S = 300.0
"""How long after the last kill everything may take to be indexed."""
KILLS = {"workers": 8, "api": 4, "postgres": 4, "redis": 4, "guardian": 2, "up": 2}
"""How often each is killed: below five within a minute, where `up` and the guardian give up on what keeps dying."""
PACE_S = 0.02
"""Pause of each of the two uploaders, so that there is an upload to interrupt."""

INCONSISTENT = {
    "passage without document": "SELECT FROM passage LEFT JOIN document d ON d.id = document_id WHERE d.id IS NULL",
    "passage without entry": "SELECT FROM passage LEFT JOIN entry USING (key) WHERE entry.key IS NULL",
    "entry without passage": "SELECT FROM entry LEFT JOIN passage USING (key) WHERE passage.key IS NULL",
    "passage twice": "SELECT FROM passage GROUP BY document_id, ordinal HAVING count(*) > 1",
    "draft left": "SELECT FROM draft",
    "blob without document": "SELECT FROM blob WHERE NOT EXISTS (SELECT FROM document d WHERE d.sha256 = blob.sha256)",
    "document without blob": "SELECT FROM document d WHERE NOT EXISTS (SELECT FROM blob WHERE blob.sha256 = d.sha256)",
    "document with a wrong count": (
        "SELECT FROM document d WHERE passages = 0 OR passages <> (SELECT count(*) FROM passage WHERE document_id = d.id)"
    ),
    "document with foreign words": (
        "SELECT FROM document d JOIN passage p ON p.document_id = d.id WHERE position(split_part(d.name, '.', 1) IN p.text) = 0"
    ),
    "term count missing or wrong": (
        "SELECT generation, term, count(*) FROM (SELECT generation, unnest(terms) AS term FROM entry) AS occurrence "
        "GROUP BY generation, term EXCEPT SELECT generation, term, passages FROM lexeme"
    ),
    "term count too many": (
        "SELECT generation, term, passages FROM lexeme EXCEPT SELECT generation, term, count(*) "
        "FROM (SELECT generation, unnest(terms) AS term FROM entry) AS occurrence GROUP BY generation, term"
    ),
    "corpus wrong": (
        "(SELECT generation, bu, count(*) FROM entry GROUP BY generation, bu EXCEPT SELECT generation, bu, passages FROM corpus) "
        "UNION ALL "
        "(SELECT generation, bu, passages FROM corpus EXCEPT SELECT generation, bu, count(*) FROM entry GROUP BY generation, bu)"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fault did."""

    fault: str
    kills: int
    acknowledged: int
    indexed_once: int
    lost: int
    doubled: int
    inconsistent: dict[str, int]
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.inconsistent) and self.indexed_once == self.acknowledged


class Drilled(Town):
    """A town of which one part falls at a time."""

    def fell(self, fault: str, turn: int) -> bool:
        """Kill what the fault names; False where it is not there right now."""
        match fault:
            case "workers":
                pids = self.pids(("ingest", "embed")[turn % 2])
            case "up":
                pids = [self.up.pid] if self.up else []
            case "postgres" | "redis":
                status = embedded.status(self.data)
                pid = status.postgres.pid if fault == "postgres" else status.redis.pid
                pids = [] if pid is None else [pid]
            case _:
                pids = self.pids(fault)
        kill(pids)
        if fault == "up" and self.up:
            self.up.wait()
            self.start()
        return bool(pids)


class Client:
    """Uploads files one by one, on two connections, and repeats what was not acknowledged."""

    def __init__(self, town: Drilled, secret: str) -> None:
        self.acknowledged: list[str] = []
        self.repeated = 0
        self._http = httpx2.Client(base_url=town.url, headers={"authorization": f"Bearer {secret}"}, timeout=30)

    def upload(self, files: dict[str, str]) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._send, files.items()))

    def documents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = self._http.get("/v1/documents", params={"limit": 1000} | ({"after": after} if after else {}))
            page.raise_for_status()
            found += page.json()["documents"]
            after = page.json()["next"]
            if after is None:
                return found

    def close(self) -> None:
        self._http.close()

    def _send(self, file: tuple[str, str]) -> None:
        name, text = file
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            time.sleep(PACE_S)
            try:
                answer = self._http.post("/v1/documents", files={"file": (name, text.encode(), "text/markdown")})
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                self.acknowledged.append(name)
                return
            if answer is not None and answer.status_code < 500:
                raise RuntimeError(f"{name}: {answer.status_code} {answer.text}")
            self.repeated += 1
            time.sleep(0.2)


def drill(town: Drilled, fault: str, files: int, seed: int, kills: int | None = None) -> Outcome:
    """Upload, kill, wait, look."""
    chance = random.Random(f"{fault}{seed}")
    client = Client(town, town.key(fault))
    contents = documents(fault, files, chance)
    began = time.monotonic()
    kills = KILLS[fault] if kills is None else kills
    # While it uploads for all; the workers also while they have a backlog.
    latest = 2 * files * 0.9 if fault == "workers" else files * 0.9
    moments = sorted(chance.uniform(files * 0.05, latest) for _ in range(kills))
    uploading = threading.Thread(target=client.upload, args=(contents,))
    uploading.start()
    done = 0
    for turn, moment in enumerate(moments):
        until(lambda moment=moment: len(client.acknowledged) + _indexed(town, fault) >= moment, SETTLE_S)  # type: ignore[misc]
        time.sleep(chance.uniform(0.0, 0.3))
        until(lambda turn=turn: town.fell(fault, turn), READY_S)  # type: ignore[misc]
        done += 1
    uploading.join()
    until(lambda: _settled(client, files), SETTLE_S)
    seconds = time.monotonic() - began
    outcome = look(town, client, fault, kills=done, seconds=seconds)
    client.close()
    return outcome


def look(town: Drilled, client: Client, fault: str, *, kills: int, seconds: float) -> Outcome:
    """What the API lists and what the database holds."""
    states: dict[str, list[str]] = {}
    for document in client.documents():
        states.setdefault(document["name"], []).append(document["state"])
    wrong: Counter[str] = Counter()
    with town.database() as connection:
        for what, statement in INCONSISTENT.items():
            wrong[what] = len(connection.execute(statement.encode()).fetchall())
        known = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM blob")}
    stored = {path.parent.name + path.name for path in (town.data / "blobs").glob("??/*")}
    wrong["stored bytes missing"] = len(known - stored)
    wrong["stored bytes of no document"] = len(stored - known)
    return Outcome(
        fault=fault,
        kills=kills,
        acknowledged=len(client.acknowledged),
        indexed_once=sum(states.get(name) == ["indexed"] for name in client.acknowledged),
        lost=sum("indexed" not in states.get(name, []) for name in client.acknowledged),
        doubled=sum(len(found) > 1 for found in states.values()),
        inconsistent={what: n for what, n in wrong.items() if n},
        seconds=seconds,
    )


def documents(fault: str, n: int, chance: random.Random) -> dict[str, str]:
    """Distinct files of one to three passages; each passage holds the name of its file, and words of its own."""
    made = {}
    for i in range(n):
        name = f"{fault}-report-{i:04}"
        sections = [
            f"## Part {part}\n\nThis is {name}, about bridges. "
            + " ".join(f"The toll at mile {chance.randrange(10**6)} is {chance.randrange(100)} coins." for _ in range(8))
            for part in range(chance.randint(1, 3))
        ]
        made[f"{name}.md"] = f"# Report {i}\n\n" + "\n\n".join(sections) + "\n"
    return made


def table(outcomes: Sequence[Outcome]) -> str:
    head = ("fault", "kills", "acknowledged", "indexed once", "lost", "doubled", "inconsistent", "seconds")
    rows: list[tuple[object, ...]] = [
        (o.fault, o.kills, o.acknowledged, o.indexed_once, o.lost, o.doubled, sum(o.inconsistent.values()), f"{o.seconds:.1f}")
        for o in outcomes
    ]
    return aligned(head, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--faults", nargs="+", choices=list(KILLS), default=list(KILLS))
    parser.add_argument("--kills", type=int, help="how often each is killed; left out, 2 to 8 times")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; left out, a temporary folder that is removed")
    asked = parser.parse_args()
    outcomes = []
    with contextlib.ExitStack() as leaving:
        folder = asked.folder or Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="pilotis-drill-")))
        folder.mkdir(parents=True, exist_ok=True)
        town = Drilled(folder.absolute())
        leaving.callback(town.stop)
        town.start()
        for fault in asked.faults:
            outcomes.append(drill(town, fault, asked.files, asked.seed, asked.kills))
            print(f"{fault}: {outcomes[-1]}", file=sys.stderr, flush=True)
    print(table(outcomes))
    return 0 if all(outcome.is_clean for outcome in outcomes) else 1


def _indexed(town: Drilled, bu: str) -> int:
    with contextlib.suppress(psycopg.Error, OSError), town.database() as connection:
        row = connection.execute("SELECT count(*) FROM document WHERE bu = %s AND state = 'indexed'", (bu,)).fetchone()
        return row[0] if row else 0
    return 0


def _settled(client: Client, files: int) -> bool:
    try:
        found = client.documents()
    except httpx2.HTTPError:
        return False
    return len(found) >= files and all(document["state"] in {"indexed", "failed"} for document in found)


if __name__ == "__main__":
    sys.exit(main())
