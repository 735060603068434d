"""What must hold once a town has come to rest: the API, the database, the files and the caches agree with what was acknowledged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

from town import Town, kill, note, until

if TYPE_CHECKING:
    from chaos import Acknowledged, Clients
    from papers import Paper

AGED_S = 7 * 3600
"""What is left by the dead is cleared away after an hour, half uploads after six: files are made older than that."""
SWEPT_S = 100.0
SEARCHED, ASKED, FORGOTTEN = 40, 40, 5
"""How many documents are searched for, asked about, and then deleted, per business unit."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that would be wrong, how much was looked at, and what was found."""

    what: str
    of: int
    wrong: list[str]


def prove(town: Town, clients: Clients, *, settle_s: float) -> list[Proof]:
    """Wait until everything is at rest, then look at it all."""
    listed: dict[str, list[dict[str, Any]]] = {}

    def rests() -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            listed.update({bu: _documents(clients, bu) for bu in clients.units})
            return all(document["state"] in {"indexed", "failed"} for found in listed.values() for document in found)
        return False

    note("all is at rest" if until(rests, settle_s, every_s=0.5) else "not all came to rest")
    known = clients.known
    proofs = [
        Proof("requests answered otherwise than expected", known.sent.total(), known.wrong),
        *_listing(known, listed),
        *_contents(town, known, listed),
        _found(clients),
    ]
    _ask(clients)
    _forget(clients)
    proofs.append(_cached(town))
    _age(town)
    note("what the dead left is swept")
    proofs += [*_files(town), *_deep(town)]
    return [
        *proofs,
        Proof("answers that tell of what was deleted before", clients.witness.asked.total(), clients.witness.wrong),
    ]


def _documents(clients: Clients, bu: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    with clients.http(bu) as http:
        while True:
            page = http.get("/v1/documents", params={"limit": 1000} | ({"after": after} if after else {})).raise_for_status()
            found += page.json()["documents"]
            after = page.json()["next"]
            if after is None:
                return found


def _listing(known: Acknowledged, listed: dict[str, list[dict[str, Any]]]) -> list[Proof]:
    by_name: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for bu, documents in listed.items():
        for document in documents:
            by_name[bu, document["name"]].append(document)
    pairs = [(key, paper, by_name[key][0]) for key, (_, paper) in known.standing.items() if by_name.get(key)]
    waiting = [each for each in pairs if each[2]["state"] not in {"indexed", "failed"}]
    failed = [each for each in pairs if each[2]["state"] == "failed"]

    def named(what: str, of: int, wrong: list[tuple[tuple[str, str], Paper, dict[str, Any]]]) -> Proof:
        told = [f"{bu}/{name}: {document['state']}, {document['error']}" for (bu, name), _, document in wrong]
        return Proof(what, of, told)

    return [
        Proof("acknowledged documents lost", len(known.standing), [str(key) for key in known.standing if not by_name.get(key)]),
        Proof("documents there twice", len(by_name), [str(key) for key, found in by_name.items() if len(found) > 1]),
        Proof("deleted documents still there", len(known.deleted), _undeleted(known, by_name)),
        Proof("documents that nobody was told of", len(by_name), [str(key) for key in by_name if key not in known.standing]),
        named("documents neither indexed nor failed", len(pairs), waiting),
        named("documents failed without a reason", len(failed), [each for each in failed if not each[2]["error"]]),
        named("good documents failed", len(pairs), [each for each in failed if each[1].expected == "indexed"]),
        named(
            "hostile documents indexed",
            len(pairs),
            [e for e in pairs if e[1].expected == "failed" and e[2]["state"] == "indexed"],
        ),
        named("failed for another reason", len(failed), [e for e in failed if e[1].reason not in (e[2]["error"] or "")]),
        named("another version than the last acknowledged", len(pairs), [e for e in pairs if e[2]["sha256"] != _digest(e[1])]),
    ]


def _undeleted(known: Acknowledged, by_name: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    ids = {document for bu, document in known.deleted if not bu}
    return [str(key) for key, found in by_name.items() for document in found if document["id"] in ids]


def _digest(paper: Paper) -> str:
    return hashlib.sha256(paper.content).hexdigest()


def _contents(town: Town, known: Acknowledged, listed: dict[str, list[dict[str, Any]]]) -> list[Proof]:
    """Each passage of a document that was made up holds the mark of its last version and no other; none is there twice."""
    marks = {document: paper.mark for document, paper in known.standing.values() if paper.mark}
    foreign, seen = [], Counter[tuple[str, int]]()
    with town.database() as connection:
        rows = connection.execute("SELECT document_id::text, ordinal, text FROM passage").fetchall()
    for document, ordinal, text in rows:
        seen[document, ordinal] += 1
        if document in marks and set(re.findall(r"mark\d+v\d+", text)) != {marks[document]}:
            foreign.append(f"{document}: {text[:60]!r}, not of {marks[document]}")
    passages = Counter(document for document, _, _ in rows)
    counts = {document["id"]: document for found in listed.values() for document in found}
    return [
        Proof("passages of another version or document", len(rows), foreign),
        Proof("passages there twice", len(rows), [str(key) for key, n in seen.items() if n > 1]),
        Proof("passages of no document", len(rows), [each for each in passages if each not in counts]),
        Proof(
            "indexed documents without a passage",
            len(counts),
            [each for each, document in counts.items() if document["state"] == "indexed" and not passages[each]],
        ),
    ]


def _found(clients: Clients) -> Proof:
    """What is indexed is found by its mark, by its own business unit."""
    of, missed = 0, []
    for bu in clients.units:
        with clients.http(bu) as http:
            for document, paper in _some(clients, bu, SEARCHED):
                of += 1
                began = time.monotonic()
                told = http.post("/v1/search", json={"question": f"the toll of {paper.mark}"}).raise_for_status().json()
                clients.witness.hear(bu, told, began=began, source="search")
                if document not in {hit["document_id"] for hit in told["passages"]}:
                    missed.append(f"{bu}/{paper.name} by {paper.mark}")
    return Proof("indexed documents that search does not find", of, missed)


def _some(clients: Clients, bu: str, n: int) -> list[tuple[str, Paper]]:
    own = [each for (owner, _), each in sorted(clients.known.standing.items()) if owner == bu and each[1].mark]
    return own[:: max(1, len(own) // n)][:n]


def _ask(clients: Clients) -> None:
    """Twice each, so that the caches hold something."""
    for bu in clients.units:
        with clients.http(bu) as http:
            for _, paper in _some(clients, bu, ASKED) * 2:
                began = time.monotonic()
                told = http.post("/v1/ask", json={"question": f"What is the toll of the {paper.mark} bridge?"}).json()
                clients.witness.hear(bu, told, began=began, source=told["cache"])


def _forget(clients: Clients) -> None:
    """Delete some that cached answers were made from, and ask again."""
    for bu in clients.units:
        with clients.http(bu) as http:
            for document, paper in _some(clients, bu, ASKED)[:FORGOTTEN]:
                http.delete(f"/v1/documents/{document}").raise_for_status()
                clients.witness.gone(bu, document, paper.mark)
                began = time.monotonic()
                told = http.post("/v1/ask", json={"question": f"What is the toll of the {paper.mark} bridge?"}).json()
                clients.witness.hear(bu, told, began=began, source=told["cache"])


def _cached(town: Town) -> Proof:
    kept = town.run("cache", "stats", "--all")
    return Proof("caches that hold nothing to look at", 1, [] if kept["answers"] else [str(kept)])


def _age(town: Town) -> None:
    """Make all files old, and wait until what was left by the dead is swept."""
    then = time.time() - AGED_S
    blobs = town.data / "blobs"
    for path in [*blobs.glob("*"), *blobs.glob("*/*"), *(town.data / "spool").glob("*")]:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (then, then))
    kill(town.pids("upkeep"))  # the next one looks at once
    until(lambda: not any(_left(town).values()), SWEPT_S, every_s=0.5)


def _left(town: Town) -> dict[str, list[str]]:
    blobs = town.data / "blobs"
    with town.database() as connection:
        known = {digest for (digest,) in connection.execute("SELECT sha256 FROM blob")}
        wanted = {digest for (digest,) in connection.execute("SELECT DISTINCT sha256 FROM document")}
        purge = [str(row) for row in connection.execute("SELECT bu, document_id FROM purge")]
    stored = {path.parent.name + path.name for path in blobs.glob("[0-9a-f][0-9a-f]/*")}
    return {
        "stored bytes of no document": sorted((stored | known) - wanted),
        "stored bytes that wait for their document": [path.name for path in blobs.glob("unsettled/*")],
        "documents without their bytes": sorted(wanted - stored) + sorted(wanted - known),
        "deletions that the caches were not told of": purge,
    }


def _files(town: Town) -> list[Proof]:
    looked = sum(1 for _ in (town.data / "blobs").glob("[0-9a-f][0-9a-f]/*"))
    return [Proof(what, looked, left) for what, left in _left(town).items()]


def _deep(town: Town) -> list[Proof]:
    """`pilotis doctor --deep`; opening a service for it also clears what dead uploads left."""
    told = town.run("doctor", "--deep", "--port", str(town.port), codes=(0, 1))
    proofs = [
        Proof(f"doctor: {each['about']}", each["of"], [f"{each['count']}: {each['examples']}"] if each["count"] else [])
        for each in told.get("deep", [])
    ]
    broken = [str(check) for check in told["checks"] if check["state"] == "error"]
    left = [path.name for path in (town.data / "spool").glob("*")] + [p.name for p in (town.data / "blobs").glob("arriving-*")]
    return [*proofs, Proof("doctor: checks", len(told["checks"]), broken), Proof("half uploads left", len(left), left)]
