"""Send a collection of normal, scanned, encrypted, corrupt and hostile files through a running service, round after round.

    python tests/acceptance/mixed_files.py ARCHIVE [--rounds 10]

ARCHIVE is raw-mixed-parsers.tar.gz; its MANIFEST.csv says what each file is. The files are only ever opened by the service's bounded
parser. Every file must end indexed or failed with a reason that a person understands, what should be readable must be indexed, no
worker may die, and what the workers hold in memory must stay flat. Exit code 1 where any of that fails.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import re
import signal
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil  # type: ignore[import-untyped,unused-ignore]

from town import Town

PATIENCE_S = 400.0
GROWTH_BYTES = 24 << 20
"""What a worker may hold more of after the last round than after the second: models and libraries are loaded by then."""
WORDLESS = ("mammoth-empty", "mammoth-external-picture", "mammoth-tiny-picture")
"""Normal files without a word: two hold nothing but a picture."""
UGLY = re.compile(
    r"Traceback|\w(?:Error|Exception)\b|panick|unwrap|\.rs\b|\.py\b|/tmp|pilotis-pars|unexpected [A-Z]|0x[0-9a-f]{5}|::|crashed",
    re.IGNORECASE,
)
"""What is for developers, in a reason that is for people."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one file ended."""

    path: str
    category: str
    state: str
    reason: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Round:
    """One pass over all files. Bytes are resident memory after it."""

    outcomes: Sequence[Outcome]
    seconds: float
    memory: Mapping[str, int]
    workers: frozenset[int]


@dataclass(slots=True)
class Client:
    """Uploads, asks, deletes."""

    http: httpx2.Client
    refused: dict[str, str] = field(default_factory=dict)

    def upload(self, folder: Path, name: str, collection: str) -> None:
        with (folder / name).open("rb") as file:
            answer = self.http.post("/v1/documents", data={"collection": collection}, files={"file": (name, file)})
        if answer.status_code not in {200, 202}:
            problem = answer.json()
            self.refused[name] = f"{problem['detail']}; {problem.get('remedy', '')}"
        elif answer.json()["refused"]:
            self.refused[name] = str(answer.json()["refused"][0]["detail"])

    def documents(self, collection: str) -> list[dict[str, Any]]:
        answer = self.http.get("/v1/documents", params={"collection": collection, "limit": 1000})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["documents"]
        return found

    def delete(self, documents: Sequence[dict[str, Any]]) -> None:
        for document in documents:
            self.http.delete(f"/v1/documents/{document['id']}").raise_for_status()


def run(town: Town, client: Client, folder: Path, rows: Sequence[Mapping[str, str]], number: int) -> Round:
    """Upload all, wait until each is settled, look at the workers, delete all."""
    collection = f"round-{number}"
    began = time.monotonic()
    for row in rows:
        client.upload(folder, row["path"], collection)
    while True:
        documents = client.documents(collection)
        if all(document["state"] in {"indexed", "failed"} for document in documents):
            break
        if time.monotonic() - began > PATIENCE_S:
            stuck = [document["name"] for document in documents if document["state"] not in {"indexed", "failed"}]
            raise TimeoutError(f"not settled after {PATIENCE_S:.0f} s: {stuck}")
        time.sleep(0.3)
    seconds = time.monotonic() - began
    processes = dict(_workers(town))
    memory = {name: process.memory_info().rss for name, process in processes.items()}
    client.delete(documents)
    return Round(
        outcomes=list(_outcomes(rows, documents, client.refused)),
        seconds=seconds,
        memory=memory,
        workers=frozenset(process.pid for name, process in processes.items() if name != "reader"),
    )


def complaints(outcomes: Sequence[Outcome], passwords: Mapping[str, str]) -> Iterator[str]:
    """What is not as the manifest has it, or not fit for a reader."""
    for outcome in outcomes:
        if outcome.state not in {"indexed", "failed"}:
            yield f"{outcome.path}: {outcome.state}"
        if outcome.state == "failed" and (
            UGLY.search(outcome.reason) or "; " not in outcome.reason or len(outcome.reason) > 300
        ):
            yield f"{outcome.path}: not a reason for a person: {outcome.reason}"
        if (wanted := _expected(outcome, passwords.get(outcome.path, ""))) and not wanted.search(
            f"{outcome.state}: {outcome.reason}"
        ):
            yield f"{outcome.path}: expected /{wanted.pattern}/, got {outcome.state}: {outcome.reason}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--most-bytes", type=int, default=2**62, help="leave out larger files, whose passages take minutes")
    parser.add_argument("--folder", type=Path, help="where to work; left out, a temporary folder that is removed")
    asked = parser.parse_args()
    # A shell in the background leaves it ignored to all that it starts, and `pilotis up` ends by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as leaving:
        folder = (asked.folder or Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="pilotis-mixed-")))).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(asked.archive) as tar:
            tar.extractall(folder / "files", filter="data")
        files = next((folder / "files").rglob("MANIFEST.csv")).parent
        with (files / "MANIFEST.csv").open(encoding="utf-8") as manifest:
            rows = [row for row in csv.DictReader(manifest) if int(row["bytes"]) <= asked.most_bytes]
        town = Town(folder)
        leaving.callback(town.stop)
        town.start()
        secret = town.key("mixed")
        http = leaving.enter_context(
            httpx2.Client(base_url=town.url, headers={"authorization": f"Bearer {secret}"}, timeout=60)
        )
        client = Client(http)
        rounds = []
        for number in range(1, asked.rounds + 1):
            rounds.append(run(town, client, files, rows, number))
            print(_line(number, rounds[-1]), file=sys.stderr, flush=True)
    return report(rounds, {row["path"]: row["password"] for row in rows})


def report(rounds: Sequence[Round], passwords: Mapping[str, str]) -> int:
    """The tables, and whether all is well."""
    wrong = sorted({complaint for done in rounds for complaint in complaints(done.outcomes, passwords)})
    if len({done.workers for done in rounds}) > 1:
        wrong.append("a worker died and was started again")
    wrong += _differences(rounds)
    for name in ("ingest", "embed"):
        grown = rounds[-1].memory[name] - rounds[min(1, len(rounds) - 1)].memory[name]
        if grown > GROWTH_BYTES:
            wrong.append(f"the worker of {name} holds {grown >> 20} MiB more than after the second round")
    for outcome in rounds[0].outcomes:
        print(f"{outcome.path:75.75} {outcome.state:8} {outcome.reason or '; '.join(outcome.warnings)}")
    print("\n| files | number | indexed | failed with a reason |\n|---|---:|---:|---:|")
    for category in sorted({outcome.category for outcome in rounds[0].outcomes}):
        states = Counter(outcome.state for outcome in rounds[0].outcomes if outcome.category == category)
        print(f"| {category} | {states.total()} | {states['indexed']} | {states['failed']} |")
    print("\n| round | seconds | ingest worker, MiB | reading process, MiB | embed worker, MiB |\n|---:|---:|---:|---:|---:|")
    for number, done in enumerate(rounds, 1):
        print(_line(number, done))
    print("\n".join(["", *wrong, f"{len(wrong)} complaints"]))
    return int(bool(wrong))


def _expected(outcome: Outcome, password: str) -> re.Pattern[str] | None:
    """None where the manifest expects no more than a clean end."""
    name = outcome.path.rpartition("/")[2]
    match outcome.category:
        case "normal":
            return re.compile("failed: there is no text" if name.startswith(WORDLESS) else "^indexed")
        case "encrypted" if password and not password.startswith("("):
            return re.compile("failed: the (?:PDF|document|file) is (?:encrypted|protected)")
        case "encrypted":
            return re.compile("^indexed|no text layer")
        case "scanned":
            return re.compile("^indexed|no text layer .*OCR is off; set reading.ocr")
        case "hostile" if "bomb" in name:
            return re.compile("failed: .*zip bomb")
    return None


def _outcomes(
    rows: Sequence[Mapping[str, str]], documents: Sequence[Mapping[str, Any]], refused: Mapping[str, str]
) -> Iterator[Outcome]:
    found = {document["name"]: document for document in documents}
    for row in rows:
        path, category = row["path"], row["category"]
        document = found.get(path)
        if document is None:
            yield Outcome(
                path=path, category=category, state="failed" if path in refused else "lost", reason=refused.get(path, "")
            )
            continue
        yield Outcome(
            path=path,
            category=category,
            state=document["state"],
            reason=document["error"] or "",
            warnings=tuple(document["warnings"]),
        )


def _differences(rounds: Sequence[Round]) -> Iterator[str]:
    for number, done in enumerate(rounds[1:], 2):
        for first, now in zip(rounds[0].outcomes, done.outcomes, strict=True):
            if (first.state, first.reason) != (now.state, now.reason):
                yield f"{now.path}: {now.state} ({now.reason}) in round {number}, {first.state} ({first.reason}) in the first"


def _workers(town: Town) -> Iterator[tuple[str, psutil.Process]]:
    for name in ("ingest", "embed"):
        # The one that was started first: Celery's pool may run in children of it.
        pid = min(town.pids(name))
        process = psutil.Process(pid)
        yield name, process
        if name == "ingest":
            readers = [
                child for child in process.children(recursive=True) if "pilotis.adapters.kreuzberg.child" in child.cmdline()
            ]
            if readers:
                yield "reader", readers[0]


def _line(number: int, done: Round) -> str:
    held = [f"{done.memory[name] / 2**20:.0f}" if name in done.memory else "-" for name in ("ingest", "reader", "embed")]
    return f"| {number} | {done.seconds:.1f} | {' | '.join(held)} |"


if __name__ == "__main__":
    sys.exit(main())
