"""Is a restored database what the snapshot says, and does it serve?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pilotis.batch.checkup import Finding, look
from pilotis.batch.manifest import Manifest
from pilotis.batch.snapshot import quiet
from pilotis.ports import Blobs, Cache, Passages
from pilotis.ports.archive import Dump, Standing, Tell
from pilotis.ports.checkup import Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was tried on a restored database; `faults` is empty where all of it went well."""

    searches: int
    search_ms: float
    """The mean of them."""
    findings: tuple[Finding, ...]
    faults: tuple[str, ...]


async def prove(
    made: Manifest,
    dump: Dump,
    inventory: Inventory,
    passages: Passages | None,
    *,
    blobs: Blobs,
    cache: Cache,
    searches: int,
    tell: Tell = quiet,
) -> Proof:
    """Rows and ledger against the manifest, `searches` passages by their documents' titles, and every check of `checkup`.

    `passages` is None where nothing was ever indexed.
    """
    faults = [*_sums(made, await dump.standing())]
    sample = await inventory.sample(searches) if passages else []
    began = time.monotonic()
    for n, (query, passage_id) in enumerate(sample):
        tell("searches", n, len(sample))
        assert passages is not None
        if passage_id not in [hit.passage_id for hit in await passages.search(query)]:
            faults.append(f"passage {passage_id} is not found by the title of its document, {query.text!r}, and its own vector")
    took = time.monotonic() - began
    findings = [finding async for finding in look(inventory, blobs, cache, tell=tell)]
    known = {f"blobs_{state}" for state in ("missing", "damaged")} if made.missing else set()
    faults += [
        f"{each.count} {each.about}: {', '.join(each.examples)}"
        for each in findings
        if each.state == "error" and not (each.check in known and each.count <= len(made.missing))
    ]
    return Proof(
        searches=len(sample),
        search_ms=1e3 * took / len(sample) if sample else 0.0,
        findings=tuple(findings),
        faults=tuple(faults),
    )


def _sums(made: Manifest, standing: Standing) -> Sequence[str]:
    faults = []
    if standing.schema == made.schema:  # a migration may well make and remove rows
        faults += [
            f"table {each.table.name} has {standing.rows.get(each.table.name)} rows instead of {each.rows}"
            for each in made.tables
            if standing.rows.get(each.table.name) != each.rows
        ]
    if standing.ledger != made.ledger:
        faults.append(f"the ledger has {standing.ledger.micro} micro-euros instead of {made.ledger.micro}")
    return faults
