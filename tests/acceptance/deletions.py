"""Delete documents and send others in their place while they are asked about: what is gone must be gone from every later answer.

    python tests/acceptance/deletions.py [--seconds 60] [--askers 6] [--documents 12] [--llm paid|extractive] [--seed 1]

Starts a service of its own, with caches on, and a model that costs money and writes slowly, so that answers are under way while
their documents go. Some threads send, replace, and delete documents; the others ask: plainly, streaming, and for passages. An answer
whose request began after a deletion's 204 may neither cite that document nor show a word of it. What was replaced may be quoted
for LAG_S after the new version says that it is indexed, and not after. Exit code 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from town import Town, aligned, free_port, listens, note, until
from witness import Witness

MODEL = "mock-ttft50-itl20-len25"
PAID = f"""
[envs.dev]
llm = {{{{ model = "{MODEL}", base_url = "{{base_url}}" }}}}
cache_ttl_s = 600

[costs.prices."{MODEL}"]
input_per_mtok = 2
output_per_mtok = 8
"""
EXTRACTIVE = '[envs.dev]\nllm = "extractive"\ncache_ttl_s = 600\n'
BU = "tolls"
WRITERS = 3
REPLACED = 0.3
"""The share of documents that are replaced where they stand; the others are deleted, and others come under their name."""
LAG_S = 5.0
"""The caches are told of new content once it is there: by the worker at once, or by the API's own round."""
INDEXED_S = 60.0
LEAST_DELETED, LONGEST = 3, 8
"""On a busy machine it goes on until so much was deleted, for so many times as long as was asked."""


@dataclass
class Load:
    """Writers and askers over one service, for as long as they are given."""

    town: Town
    secret: str
    seed: int
    witness: Witness = field(default_factory=Witness)
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float, *, askers: int, documents: int) -> None:
        shares = [range(first, documents, WRITERS) for first in range(WRITERS)]
        threads = [threading.Thread(target=self._guarded, args=(self._write, share, n)) for n, share in enumerate(shares)]
        threads += [threading.Thread(target=self._guarded, args=(self._ask, range(documents), n)) for n in range(askers)]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        until(lambda: self.over.is_set() or self.done["deleted"] >= LEAST_DELETED, LONGEST * seconds)
        self.over.set()
        for thread in threads:
            thread.join()

    def _guarded(self, act: Any, subjects: range, n: int) -> None:
        try:
            with self._http() as http:
                act(http, subjects, random.Random(f"{self.seed} {act.__name__} {n}"))
        except Exception as error:  # a thread that ends with one would end unseen
            self.failed.append(f"{act.__name__} {n}: {error!r}")
            self.over.set()

    def _http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.town.url, headers={"authorization": f"Bearer {self.secret}"}, timeout=60)

    def _write(self, http: httpx2.Client, subjects: range, chance: random.Random) -> None:
        versions = dict.fromkeys(subjects, 0)
        ids = {number: self._send(http, number, 0) for number in subjects}
        while not self.over.wait(chance.uniform(0, 0.3)):
            number = chance.choice(subjects)
            version, mark = versions[number] + 1, f"mark{number}v{versions[number]}"
            versions[number] = version
            if chance.random() < REPLACED:
                self._send(http, number, version)
                self.witness.gone(BU, mark, after_s=LAG_S)
                self.done["replaced"] += 1
                continue
            deleted = http.delete(f"/v1/documents/{ids[number]}")
            self.witness.gone(BU, ids[number], mark)
            if deleted.status_code != 204:
                self.failed.append(f"deletion: {deleted.status_code} {deleted.text}")
            self.done["deleted"] += 1
            self._question(http, number, chance)
            ids[number] = self._send(http, number, version)

    def _send(self, http: httpx2.Client, number: int, version: int) -> str:
        """The id, once it is indexed."""
        text = f"# Bridge{number}\n\nThe toll of bridge{number} is mark{number}v{version} coins, as the keeper says.\n"
        answer = http.post("/v1/documents", files={"file": (f"bridge{number}.md", text.encode())}).raise_for_status()
        (document,) = answer.json()["documents"]

        def is_indexed() -> bool:
            found = http.get(f"/v1/documents/{document['id']}").raise_for_status().json()
            return bool(found["state"] == "indexed")

        if not until(is_indexed, INDEXED_S):
            raise TimeoutError(f"bridge{number} is not indexed within {INDEXED_S:.0f} s")
        self.done["sent"] += 1
        return str(document["id"])

    def _ask(self, http: httpx2.Client, subjects: range, chance: random.Random) -> None:
        while not self.over.is_set():
            self._question(http, chance.choice(subjects), chance)

    def _question(self, http: httpx2.Client, number: int, chance: random.Random) -> None:
        way = chance.choice(("plain", "stream", "search"))
        body: dict[str, Any] = {"question": f"What is the toll of bridge{number}?"}
        began = time.monotonic()
        if way == "plain":
            told = http.post("/v1/ask", json=body)
            self._judge(told, way, began, told.json())
        elif way == "search":
            told = http.post("/v1/search", json=body)
            self._judge(told, way, began, told.json())
        else:
            told = http.post("/v1/ask", json=body | {"stream": True})
            shown: dict[str, Any] = {}
            for event in told.text.split("\n\n"):
                name, _, data = event.partition("\ndata: ")
                if name in {"event: passages", "event: done"}:
                    shown |= json.loads(data)
            self._judge(told, way, began, shown)

    def _judge(self, answer: httpx2.Response, way: str, began: float, told: dict[str, Any]) -> None:
        if answer.status_code == 404:  # nothing is indexed just now
            self.done["nothing to ask"] += 1
        elif answer.status_code != 200 or not told:
            self.failed.append(f"{way}: {answer.status_code} {answer.text[:200]}")
        else:
            self.witness.hear(BU, told, began=began, source=f"{way}, {told.get('cache', 'fresh')}")


@contextlib.contextmanager
def model(folder: Path) -> Iterator[str]:
    """The address of a server of models that cost nothing."""
    port, script = free_port(), Path(__file__).parents[1] / "mock_openai.py"
    with (folder / "model.log").open("w") as log:
        process = subprocess.Popen([sys.executable, str(script), "--port", str(port)], stdout=log, stderr=log)
    try:
        if not until(lambda: listens(port), 30):
            raise RuntimeError((folder / "model.log").read_text())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--askers", type=int, default=6)
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--llm", choices=("paid", "extractive"), default="paid")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with contextlib.ExitStack() as leaving:
        folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="pilotis-deletions-")))
        contract = PAID.format(base_url=leaving.enter_context(model(folder))) if asked.llm == "paid" else EXTRACTIVE
        town = Town(folder, contract)
        leaving.callback(town.stop)
        town.start()
        note("it is up")
        load = Load(town, town.key(BU), asked.seed)
        load.run(asked.seconds, askers=asked.askers, documents=asked.documents)
        note("all is asked")
    heard = load.witness
    print(aligned(("documents", "times"), sorted(load.done.items())), end="\n\n")
    print(aligned(("answers", "times"), sorted(heard.asked.items())), end="\n\n")
    print(f"{heard.cited} told of what was deleted or replaced later, {len(heard.wrong)} of what had been before")
    for wrong in (*heard.wrong[:20], *load.failed[:20]):
        print(wrong, file=sys.stderr)
    return 1 if heard.wrong or load.failed else 0


if __name__ == "__main__":
    sys.exit(main())
