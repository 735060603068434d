"""Is anything lost, left over or miscounted? Every store asked about itself and about the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pilotis.batch.snapshot import quiet, side_by_side
from pilotis.ports import Blobs, Cache
from pilotis.ports.archive import Tell
from pilotis.ports.checkup import Inventory, Looked

SETTLED_S = 3600.0
"""Bytes that nobody refers to are left over once they have been there for so long: before that their document may be on its way."""
SHOWN = 5

AGAIN = "ingest their documents again: delete them, then pilotis ingest"
RESTORE = "pilotis snapshot restore, or ingest the documents again"
CHECKS = {
    "passages_without_entry": ("passages that search cannot find", AGAIN),
    "entries_without_passage": ("vectors without their passage", RESTORE),
    "passages_without_document": ("passages without their document", RESTORE),
    "entries_unlike_document": ("passages under another business unit, collection or metadata than their document", AGAIN),
    "drafts_left": ("passages kept aside for documents that do not wait for them", "send the documents again"),
    "documents_miscounted": ("documents with another number of passages than they say", AGAIN),
    "documents_insane": ("documents whose state contradicts what is stored of them", AGAIN),
    "documents_stuck": ("documents that wait and that nobody works on", "start the workers: pilotis up, or pilotis worker"),
    "documents_without_blob_row": ("documents whose bytes would not be removed with them", RESTORE),
    "lexemes_miscounted": ("terms that occur in another number of passages than is kept", RESTORE),
    "corpora_miscounted": ("business units with another number of passages than is kept", RESTORE),
    "tallies_miscounted": ("quarters of an hour whose sum is not that of the ledger", RESTORE),
    "blobs_missing": ("documents whose original bytes are gone", "send the files again, or pilotis snapshot restore"),
    "blobs_damaged": ("original bytes that have changed", "send the files again, or pilotis snapshot restore"),
    "blobs_left": ("stored bytes of no document", "remove them from where the original files are kept"),
    "blobs_waiting": (
        "stored bytes of deleted documents that wait to be removed",
        "they go with the next ingestion or deletion",
    ),
    "cached_without_document": ("documents that are gone and whose cached answers are not", "run: pilotis cache clear --all"),
}
"""What each check looks for, and what to do about it."""
HARMLESS = frozenset({"blobs_waiting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found, for a person."""

    check: str
    about: str
    of: int
    count: int
    examples: tuple[str, ...]
    state: Literal["ok", "warning", "error"]
    remedy: str = ""


def finding(looked: Looked) -> Finding:
    about, remedy = CHECKS[looked.check]
    bad: Literal["warning", "error"] = "warning" if looked.check in HARMLESS else "error"
    return Finding(
        check=looked.check,
        about=about,
        of=looked.of,
        count=looked.count,
        examples=looked.examples,
        state=bad if looked.count else "ok",
        remedy=remedy if looked.count else "",
    )


async def look(inventory: Inventory, blobs: Blobs, cache: Cache, *, tell: Tell = quiet) -> AsyncIterator[Finding]:
    """One finding for each of CHECKS, as they come. Nothing is changed; a service may go on meanwhile.

    Raises Transient where a store is away.
    """
    questions = inventory.questions()
    for n, check in enumerate(questions):
        tell(check.replace("_", " "), n, len(questions))
        yield finding(await inventory.ask(check))
    for looked in await _bytes(inventory, blobs, tell):
        yield finding(looked)
    yield finding(await _cached(inventory, cache))


async def _bytes(inventory: Inventory, blobs: Blobs, tell: Tell) -> Sequence[Looked]:
    stored = await blobs.settled(older_than_s=SETTLED_S)
    known = await inventory.blobs()
    wanted = [digest for digest, is_referenced in known.items() if is_referenced]
    bad: dict[str, str] = {}
    done = 0

    async def check(digest: str) -> None:
        nonlocal done
        if (state := await blobs.check(digest)) != "whole":
            bad[digest] = state
        tell("original bytes", done := done + 1, len(wanted))

    await side_by_side(wanted, check)
    left = [digest for digest in stored if digest not in known]
    waiting = [digest for digest, is_referenced in known.items() if not is_referenced]
    if bad or left:
        # Some may have come or gone while the others were read.
        now = await inventory.blobs()
        bad = {digest: state for digest, state in bad.items() if now.get(digest)}
        left = [digest for digest in left if digest not in now and await blobs.exists(digest)]
    return [
        *(
            _looked(f"blobs_{state}", len(wanted), [digest for digest in bad if bad[digest] == state])
            for state in ("missing", "damaged")
        ),
        _looked("blobs_left", len(stored), left),
        _looked("blobs_waiting", len(stored), waiting),
    ]


async def _cached(inventory: Inventory, cache: Cache) -> Looked:
    served = await cache.sources()
    if gone := set(served) - set(await inventory.known(served)):
        gone &= set(await cache.sources())  # those that were forgotten while we looked
    return _looked("cached_without_document", len(served), sorted(gone))


def _looked(check: str, of: int, found: Collection[str]) -> Looked:
    return Looked(check=check, of=of, count=len(found), examples=tuple(sorted(found)[:SHOWN]))
