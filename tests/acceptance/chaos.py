"""Kill everything, everywhere, for minutes, while mixed and hostile documents come in: nothing acknowledged may be lost or left over.

    python tests/acceptance/chaos.py [--documents 2000] [--minutes 5] [--seed 1] [--also FOLDER]

Starts a service of its own over an empty data folder, with a sweeper beside it. Four business units send documents over HTTP,
replace some of them, delete some and send others in their place, and ask questions, as clients that repeat what was not
acknowledged. Every few seconds a worker, the API, Redis, Postgres (or one backend of it) or the guardian is killed with SIGKILL;
`up` is started again where it gives up, as a supervisor does. What is sent and what is killed when follows from the seed.
Then everything is asked whether it is as it was acknowledged. Exit code 1 where something is not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

import papers
from papers import Paper
from proofs import Proof, prove
from town import PARTS, Town, aligned, command, environ, kill, note, parent, until
from witness import Witness, ask_until

UNITS = ("east", "north", "south", "west")
SENDERS = 4
SENDING = 0.85
"""The share of the time of kills in which documents are sent: those behind them have a backlog to fall into."""
HOSTILE_SHARE, REPLACED, DELETED, RESENT, TWINS = 0.15, 0.12, 0.1, 0.5, 0.04
"""Shares: of documents; of those that are good; of those that were deleted, the last that come again."""
PATIENCE_S = 300.0
"""How long a client repeats what is not acknowledged."""
CONTRACT = """
[envs.dev]
llm = "extractive"
cache_ttl_s = 3600

[costs]
target_eur_per_1k = 10
guardrail_eur_per_req = 0.01
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that a client does at a moment of the run, in seconds from its beginning."""

    at_s: float
    bu: str
    paper: Paper
    deletes: bool = False


@dataclass
class Acknowledged:
    """What the clients know: what stands under each name of each business unit, and what is gone."""

    standing: dict[tuple[str, str], tuple[str, Paper]] = field(default_factory=dict)
    """The id and the last version that was acknowledged."""
    deleted: set[tuple[str, str]] = field(default_factory=set)
    """Names and ids."""
    sent: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)

    def is_expected(self, paper: Paper, status: int) -> bool:
        return paper.expected in {"refused", "either"} and 400 <= status < 500


def steps(documents: int, seconds: float, seed: int, also: Sequence[Paper]) -> list[Step]:
    """What is sent and deleted when: the same for the same numbers."""
    chance = random.Random(seed)
    made: list[Step] = []

    def moment(after: float = 0.0) -> float:
        return after + chance.random() * (SENDING * seconds - after)

    for number in range(documents):
        bu = chance.choice(UNITS)
        if number < len(also):
            made.append(Step(at_s=moment(), bu=bu, paper=also[number]))
            continue
        if chance.random() < HOSTILE_SHARE:
            made.append(Step(at_s=moment(), bu=bu, paper=papers.written(chance.choice([*papers.HOSTILE]), number, 1, chance)))
            continue
        kind = chance.choice([*papers.GOOD])
        made.append(Step(at_s=moment(), bu=bu, paper=papers.written(kind, number, 1, chance)))
        if chance.random() < TWINS:
            made.append(Step(at_s=moment(), bu=chance.choice([other for other in UNITS if other != bu]), paper=made[-1].paper))
            continue
        if chance.random() < REPLACED:
            made.append(Step(at_s=moment(made[-1].at_s), bu=bu, paper=papers.written(kind, number, 2, chance)))
        if chance.random() < DELETED:
            made.append(Step(at_s=moment(made[-1].at_s), bu=bu, paper=made[-1].paper, deletes=True))
            if chance.random() < RESENT:
                made.append(Step(at_s=moment(made[-1].at_s), bu=bu, paper=papers.written(kind, number, 3, chance)))
    return made


class Clients:
    """They send, delete and ask, each on a connection of its own, until their steps are done."""

    units = UNITS

    def __init__(self, town: Town, secrets: dict[str, str], seed: int) -> None:
        self.known = Acknowledged()
        self.witness = Witness()
        self._town, self._secrets, self._seed = town, secrets, seed
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def http(self, bu: str) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self._secrets[bu]}"}
        return httpx2.Client(base_url=self._town.url, headers=headers, timeout=30)

    def begin(self, todo: Sequence[Step], began: float) -> None:
        shares: dict[int, list[Step]] = defaultdict(list)
        for step in todo:
            # What becomes of one name stays in one thread, in its order.
            shares[int(hashlib.sha256(step.paper.name.encode()).hexdigest(), 16) % SENDERS].append(step)
        for share in shares.values():
            self._run(self._send_all, sorted(share, key=lambda step: step.at_s), began)
        for n, bu in enumerate(UNITS[:2]):
            self._run(self._ask, bu, n)

    def finish(self) -> None:
        """Wait for the senders, then end the askers."""
        for thread in self._threads[:-2]:
            thread.join()
        self._over.set()
        for thread in self._threads[-2:]:
            thread.join()

    def _run(self, act: Any, *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=act, args=arguments, daemon=True))
        self._threads[-1].start()

    def _ask(self, bu: str, n: int) -> None:
        def subject(chance: random.Random) -> str:
            own = [paper.mark for (owner, _), (_, paper) in list(self.known.standing.items()) if owner == bu and paper.mark]
            return chance.choice(own or ["old"])

        with self.http(bu) as http:
            ask_until(self._over, http, self.witness, bu, subject, random.Random(self._seed * 1000 + n))

    def _send_all(self, todo: Sequence[Step], began: float) -> None:
        with contextlib.ExitStack() as opened:
            http = {bu: opened.enter_context(self.http(bu)) for bu in UNITS}
            for step in todo:
                time.sleep(max(0.0, began + step.at_s - time.monotonic()))
                (self._delete if step.deletes else self._send)(http[step.bu], step)

    def _send(self, http: httpx2.Client, step: Step) -> None:
        paper, key = step.paper, (step.bu, step.paper.name)
        answer = self._insist(http, "POST", "/v1/documents", files={"file": (paper.name, paper.content)})
        if answer is None:
            self.known.wrong.append(f"{paper.name}: not taken within {PATIENCE_S:.0f} s")
        elif answer.status_code == 202:
            (document,) = answer.json()["documents"]
            self.known.sent[paper.kind] += 1
            self.known.standing[key] = (document["id"], paper)
        elif self.known.is_expected(paper, answer.status_code):
            self.known.sent[f"{paper.kind}, refused"] += 1
        else:
            self.known.wrong.append(f"{paper.name}: {answer.status_code} {answer.text}")

    def _delete(self, http: httpx2.Client, step: Step) -> None:
        key = (step.bu, step.paper.name)
        if key not in self.known.standing:
            return
        document, paper = self.known.standing[key]
        answer = self._insist(http, "DELETE", f"/v1/documents/{document}")
        # 404: it was done, and its 204 was lost.
        if answer is None or answer.status_code not in {204, 404}:
            self.known.wrong.append(f"{paper.name}: not deleted: {answer.text if answer else 'no answer'}")
            return
        self.witness.gone(step.bu, document, *(f"{paper.mark.partition('v')[0]}v{version}" for version in (1, 2)))
        del self.known.standing[key]
        self.known.deleted |= {key, ("", document)}

    def _insist(self, http: httpx2.Client, method: str, path: str, **given: Any) -> httpx2.Response | None:
        """The first answer that is neither an outage nor a limit."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                answer = http.request(method, path, **given)
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
            self.known.repeated += 1
            time.sleep(0.3)
        return None


@dataclass
class Killer:
    """Kills a part every few seconds, and keeps `up` and the sweeper alive as a supervisor would."""

    town: Town
    chance: random.Random
    every_s: float
    kills: Counter[str] = field(default_factory=Counter)
    given_up: int = 0
    """How often `up` ended by itself."""
    orphans: dict[int, str] = field(default_factory=dict)
    """Descendants of what was killed, by pid, with what tells them from another process of that number."""
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float, began: float) -> None:
        at, turn = began, 0
        while True:
            at += self.chance.uniform(0.4, 1.6) * self.every_s
            # Each of them as often as the others, in an order of chance.
            if turn % len(PARTS) == 0:
                order = self.chance.sample(PARTS, len(PARTS))
            part, whole = order[turn % len(PARTS)], self.chance.random() < 0.6
            turn += 1
            if at > began + seconds:
                return
            time.sleep(max(0.0, at - time.monotonic()))
            if until(lambda part=part: bool(self.town.pids(part)), 20):  # type: ignore[misc]
                self._kill(part, whole=whole)

    def _kill(self, part: str, *, whole: bool) -> None:
        pids = self.town.pids(part)
        if not pids:
            return
        victims, name = pids, part
        if part == "postgres":
            victims, name = (pids[:1], "postgres") if whole or len(pids) == 1 else ([self.chance.choice(pids[1:])], "backend")
        if part in {"ingest", "embed", "upkeep", "api"}:
            self.orphans |= {pid: _born(pid) for pid in _descendants(victims)}
        kill(victims)
        self.kills[name] += 1

    def left_over(self) -> list[str]:
        """Descendants of what was killed that live on."""
        return [command(pid) for pid, born in self.orphans.items() if born and _born(pid) == born]

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """For as long as the block lasts."""
        thread = threading.Thread(target=self._supervise, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(120)

    def _supervise(self) -> None:
        sweeper = self._sweeper()
        while not self._over.wait(0.2):
            if self.town.up and self.town.up.poll() is not None:
                self.given_up += 1
                with contextlib.suppress(RuntimeError):
                    self.town.start()
            if sweeper.poll() is not None:
                sweeper = self._sweeper()
        sweeper.terminate()
        sweeper.wait(30)

    def _sweeper(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pilotis", "--data", str(self.town.data), "worker", "upkeep"]
        with (self.town.folder / "sweeper.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.town.folder, env=environ())


def chaos(folder: Path, asked: argparse.Namespace) -> tuple[list[Proof], str]:
    """The proofs, and a table of what was done."""
    seconds = asked.minutes * 60
    also = list(papers.of_folder(asked.also)) if asked.also else []
    todo = steps(asked.documents, seconds, asked.seed, also)
    town = Town(folder, CONTRACT)
    killer = Killer(town, random.Random(asked.seed + 1), asked.every)
    try:
        town.start()
        note("it is up")
        clients = Clients(town, {bu: town.key(bu) for bu in UNITS}, asked.seed)
        with killer.supervised():
            began = time.monotonic()
            clients.begin(todo, began)
            killer.run(seconds, began)
            note("the last kill is done")
            clients.finish()
            note("all is sent")
            sent_s = time.monotonic() - began
            proofs = prove(town, clients, settle_s=asked.settle)
            settled_s = time.monotonic() - began - sent_s
    finally:
        town.stop()
    note("it is stopped")
    until(lambda: not town.everything(), 15)
    left = [command(pid) for pid in town.everything()]
    proofs.append(Proof("processes left over by what was killed", len(killer.orphans), [*killer.left_over(), *left]))
    return proofs, _told(clients, killer, sent_s, settled_s)


def _told(clients: Clients, killer: Killer, sent_s: float, settled_s: float) -> str:
    known, states = clients.known, Counter(clients.known.sent)
    rows: list[tuple[object, ...]] = [(what, n) for what, n in sorted(states.items())]
    tables = [aligned(("acknowledged", "sent"), [*rows, ("all", sum(states.values()))])]
    tables.append(aligned(("killed", "times"), [*sorted(killer.kills.items()), ("all", killer.kills.total())]))
    tables.append(aligned(("question", "times"), sorted(clients.witness.asked.items())))
    tables.append(
        f"{len(known.standing):,} documents stand, {len(known.deleted) // 2:,} were deleted, {known.repeated:,} requests were repeated; "
        f"`up` gave up {killer.given_up} times\n{sent_s:.0f} s of sending and kills, {settled_s:.0f} s until all was settled and proven"
    )
    return "\n\n".join(tables)


def _descendants(pids: Sequence[int]) -> set[int]:
    parents = {int(path.name): parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found, level = set[int](), set(pids)
    while level := {pid for pid, above in parents.items() if above in level} - found:
        found |= level
    return found


def _born(pid: int) -> str:
    """When it started, empty where it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long things are killed")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two kills, on average")
    parser.add_argument(
        "--settle", type=float, default=1800.0, help="seconds that everything may take to settle after the last"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--also", type=Path, help="a folder whose files are among the documents")
    parser.add_argument("--folder", type=Path, help="where to work; left out, a temporary folder that is removed")
    asked = parser.parse_args()
    with contextlib.ExitStack() as leaving:
        folder = asked.folder or Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="pilotis-chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        if os.listdir(folder):  # noqa: PTH208 - whether there is anything
            parser.error(f"{folder} is not empty")
        proofs, told = chaos(folder.absolute(), asked)
    print(f"seed {asked.seed}\n\n{told}\n")
    rows: list[tuple[object, ...]] = [(proof.of, len(proof.wrong), proof.what) for proof in proofs]
    print(aligned(("looked at", "wrong", "what would be wrong"), rows))
    for proof in proofs:
        if proof.wrong:
            print(f"{proof.what}: {'; '.join(proof.wrong[:10])}", file=sys.stderr)
    return 1 if any(proof.wrong for proof in proofs) else 0


if __name__ == "__main__":
    sys.exit(main())
