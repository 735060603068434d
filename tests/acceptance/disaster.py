"""Take a snapshot of a service at work, destroy everything, restore, and ask the same again.

    python tests/acceptance/disaster.py [--documents 60] [--questions 40] [--seed 1]

A service of its own takes in documents of many formats and answers a golden set, with prices of its own for what embeds questions and
documents. A snapshot is taken while questions go on. Then everything is killed with SIGKILL, the data folder removed, the snapshot
restored into a new one, and the service started again: the answers must be the same, with the same citations at the same places,
and the ledger the same to the micro-euro, with all that clients had been told that they cost before the snapshot began. Exit code 1
where that does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

import papers
from deletions import model
from proofs import Proof
from town import Town, aligned, kill, note, until

EMBEDDER = "mock-dim32"
CONTRACT = f"""
[envs.dev]
llm = "extractive"
embedder = {{{{ model = "{EMBEDDER}", base_url = "{{base_url}}", dimension = 32 }}}}
cache_ttl_s = 0

[costs]
target_eur_per_1k = 10
guardrail_eur_per_req = 0.01

[costs.prices."{EMBEDDER}"]
input_per_mtok = 12.345678
"""
UNITS = ("north", "south")
LEDGER = "SELECT id, at::text, bu, kind, model, usage::text, cost_eur::text, micro FROM ledger ORDER BY id"


class Customers:
    """They send documents, and ask."""

    def __init__(self, town: Town, seed: int) -> None:
        self.town = town
        self.secrets = {bu: town.key(bu) for bu in UNITS}
        self.paid: dict[str, Decimal] = {}
        """What each answer was said to cost, by its id."""
        self._chance = random.Random(seed)

    def http(self, bu: str) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.secrets[bu]}"}
        return httpx2.Client(base_url=self.town.url, headers=headers, timeout=60)

    def send(self, documents: int) -> list[tuple[str, str]]:
        """Some for each business unit; the golden set, as units and questions, once all are indexed."""
        golden = []
        for number in range(documents):
            bu, kind = UNITS[number % len(UNITS)], sorted(papers.GOOD)[number % len(papers.GOOD)]
            paper = papers.written(kind, number, 1, self._chance)
            with self.http(bu) as http:
                http.post("/v1/documents", files={"file": (paper.name, paper.content)}).raise_for_status()
            golden.append((bu, f"What is the toll of the {paper.mark} bridge?"))
        if not until(lambda: all(self._is_settled(bu) for bu in UNITS), 300, every_s=0.3):
            raise TimeoutError("not all documents are indexed")
        return golden

    def ask(self, golden: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """What of each answer must not change."""
        told = []
        for bu, question in golden:
            with self.http(bu) as http:
                answer = http.post("/v1/ask", json={"question": question}).raise_for_status().json()
            self.paid[answer["id"]] = Decimal(answer["cost_eur"])
            kept = ("document", "passage_id", "start", "end", "quote")
            citations = [{name: one[name] for name in kept} for one in answer["citations"]]
            told.append({"text": answer["answer"], "citations": citations})
        return told

    def names(self) -> set[str]:
        """All documents there are."""
        found = set()
        for bu in UNITS:
            with self.http(bu) as http:
                page = http.get("/v1/documents", params={"limit": 1000}).raise_for_status().json()
            found |= {document["name"] for document in page["documents"]}
        return found

    def _is_settled(self, bu: str) -> bool:
        with self.http(bu) as http:
            found = http.get("/v1/documents", params={"limit": 1000}).raise_for_status().json()["documents"]
        return all(document["state"] == "indexed" for document in found)


def destroy(town: Town) -> None:
    """Kill everything at once, and leave no file."""
    assert town.up
    kill([town.up.pid, *town.everything()])
    town.up.wait()
    # What was killed had children that end a moment later, and write until then.
    if not until(lambda: not town.everything(), 30):
        raise TimeoutError("something of it lives on")
    shutil.rmtree(town.data)


def proofs(town: Town, customers: Customers, golden: list[tuple[str, str]]) -> list[Proof]:
    """The whole of it: ask, keep, lose, restore, ask."""
    before = customers.ask(golden)
    note("the golden set is asked")
    due, made = _keep(town, customers, golden)
    with customers.http(UNITS[0]) as http:  # what comes after it is lost with the disk
        http.post("/v1/documents", files={"file": ("late.md", b"# Too late\n\nNobody will read this.\n")}).raise_for_status()
    lines, _ = _books(town)
    note("a snapshot is there")
    destroy(town)
    note("everything is gone")
    restored = town.run("snapshot", "restore", "--at", "archive")
    town.start()
    note("it is restored, and up again")
    again, sums = _books(town)
    after, names = customers.ask(golden), customers.names()
    deep = town.run("doctor", "--deep", "--port", str(town.port), codes=(0, 1))["deep"]
    unlike = [question for (_, question), was, now in zip(golden, before, after, strict=True) if was != now]
    cited, micro = sum(bool(each["citations"]) for each in after), made["ledger"]["micro_eur"]
    return [
        Proof("answers that are not the same", len(golden), unlike),
        Proof("answers without a citation", len(golden), [] if cited > len(golden) * 0.9 else [f"only {cited} have one"]),
        Proof("costs told before the snapshot and not in it", len(due), _missing(due, again)),
        Proof("lines of the ledger that changed", len(again), [key for key, row in again.items() if lines.get(key) != row]),
        Proof("lines of the ledger, other than in the manifest", len(again), _unlike(len(again), made["ledger"]["events"])),
        Proof("micro-euros, other than in the manifest", micro, _unlike(sums, (micro, micro))),
        Proof("rows loaded, other than in the manifest", restored["rows_loaded"], _unlike(restored["rows"], made["rows"])),
        Proof("documents from after the snapshot", len(names), ["late.md"] if "late.md" in names else []),
        *(Proof(f"doctor: {each['about']}", each["of"], each["examples"] if each["count"] else []) for each in deep),
    ]


def _keep(town: Town, customers: Customers, golden: list[tuple[str, str]]) -> tuple[dict[str, Decimal], dict[str, Any]]:
    """What was told to cost before the snapshot began, and the snapshot, taken while questions go on."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            customers.ask(golden[:1])

    busy = threading.Thread(target=go_on)
    busy.start()
    time.sleep(1.0)
    due = customers.paid.copy()
    try:
        made: dict[str, Any] = town.run("snapshot", "create", "--at", "archive")
    finally:
        over.set()
        busy.join()
    return due, made


def _books(town: Town) -> tuple[dict[str, Any], tuple[int, int]]:
    """The ledger's lines by their id; the sums of the ledger and of its quarters of an hour, in micro-euros."""
    with town.database() as connection:
        lines = {row[0]: row for row in connection.execute(LEDGER).fetchall()}
        sums = connection.execute("SELECT (SELECT sum(micro) FROM ledger), (SELECT sum(micro) FROM tally)").fetchone()
    assert sums
    return lines, (int(sums[0]), int(sums[1]))


def _missing(due: dict[str, Decimal], ledger: dict[str, Any]) -> list[str]:
    booked = {key: Decimal(row[6]) for key, row in ledger.items()}
    return [f"{key}: {cost} €, booked {booked.get(key)}" for key, cost in due.items() if booked.get(key) != cost]


def _unlike(found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{found} instead of {wanted}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with contextlib.ExitStack() as leaving:
        folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="pilotis-disaster-")))
        town = Town(folder, CONTRACT.format(base_url=leaving.enter_context(model(folder))))
        leaving.callback(town.stop)
        town.start()
        note("it is up")
        customers = Customers(town, asked.seed)
        golden = customers.send(asked.documents)[: asked.questions]
        note("all is indexed")
        proven = proofs(town, customers, golden)
    rows: list[tuple[object, ...]] = [(proof.of, len(proof.wrong), proof.what) for proof in proven]
    print(aligned(("looked at", "wrong", "what would be wrong"), rows))
    for proof in proven:
        if proof.wrong:
            print(f"{proof.what}: {'; '.join(map(str, proof.wrong[:10]))}", file=sys.stderr)
    return 1 if any(proof.wrong for proof in proven) else 0


if __name__ == "__main__":
    sys.exit(main())
