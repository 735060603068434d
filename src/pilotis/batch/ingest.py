"""The road of a document, from a file in a hand to passages that wait for their vectors.

receive: bytes durable -> row durable -> bytes settled -> acknowledged -> nudge
parse_waiting: claim -> fetch -> parse in a bounded process -> cut -> stage -> nudge

The row is the truth and the queue only a nudge: whatever is lost, the next nudge finds. Every verb may run twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pilotis.batch.names import clean_collection, clean_metadata, clean_name
from pilotis.batch.purge import purge
from pilotis.derive.plan import Env
from pilotis.errors import Invalid, Permanent, PilotisError, SetupError, Transient
from pilotis.ports import Claim, Deps, Document, NewDocument
from pilotis.rag.passage import cut

MAX_ATTEMPTS, LONGEST_PAUSE_S = 12, 300.0
"""What may pass by itself is given a quarter of an hour: pauses double from 2 s to five minutes."""
MAX_DEATHS = 5
"""How many workers may end with the same document in their hands before it is the document's fault."""
FORGOTTEN_S = 3600.0
"""Bytes that have been stored for so long without a document are those of an upload that died."""
LEASE_S, HEARTBEAT_S = 15.0, 5.0
"""A worker that dies loses its document after LEASE_S; one that lives renews the lease meanwhile."""
SHIFT_S = 2.0
"""How long one call works before it lets the queue breathe: a worker that is asked to end does so between two calls."""


async def receive(
    content: Path, env: Env, deps: Deps, *, bu: str, collection: str, name: str, media_type: str, metadata: Mapping[str, Any]
) -> tuple[Document, bool]:
    """Store a document and acknowledge it: once this returns, it survives any crash. False: its content is already known.

    Raises Invalid for a name, a size or metadata that cannot be taken; Transient where disk or database have no room.
    """
    size = content.stat().st_size
    if size == 0:
        raise Invalid(f"{name!r} is empty (0 bytes)", remedy="send a file with content", code="empty_file")
    if size > env.max_file_bytes:
        raise Invalid(
            f"{name!r} has {size:,} bytes; the limit is {env.max_file_bytes:,}",
            remedy="split the file, or raise limits.max_file_mib in the contract",
            status=413,
            code="file_too_large",
        )
    name, collection, metadata = clean_name(name), clean_collection(collection), clean_metadata(metadata)
    sha256, size = await deps.blobs.put(content)
    document, changed = await deps.documents.register(
        NewDocument(bu=bu, collection=collection, name=name, sha256=sha256, size=size, media_type=media_type, metadata=metadata)
    )
    if not await deps.blobs.exists(sha256):
        # The last other document with these bytes was deleted between the two lines above.
        await deps.blobs.put(content)
    await deps.blobs.settle(sha256)
    if changed:
        await deps.queue.nudge("ingest")
    return document, changed


async def forget(document_id: str, deps: Deps, *, bu: str) -> None:
    """Delete a document with its passages, vectors, bytes and whatever the caches have made from it.

    Raises NotFound, also the second time; Transient where the caches could not be told: they are, before they are read again.
    """
    await deps.documents.delete(bu, document_id)
    await deps.documents.reclaim(deps.blobs.delete)
    try:
        await purge(deps.documents, deps.cache)
    except Transient as error:
        raise Transient(
            f"the document is deleted, but cached answers made from it are not yet: {error.message}",
            remedy="nothing is left to do: they are removed as soon as the cache can be reached",
            retry_after_s=5,
        ) from error


async def sweep(deps: Deps) -> None:
    """Drop the bytes of uploads that died between storing and registering. Safe beside uploads of the same bytes, see `receive`."""
    left = await deps.blobs.unsettled(older_than_s=FORGOTTEN_S)
    await deps.documents.adopt(left)
    await deps.documents.reclaim(deps.blobs.delete)
    for sha256 in left:
        await deps.blobs.settle(sha256)


async def parse_waiting(env: Env, deps: Deps) -> bool:
    """Parse what waits, one document after the other; True where the shift ended before the work did.

    Raises Transient where the stores are away, SetupError where the parser does not start: nothing is lost.
    """
    ends = time.monotonic() + SHIFT_S
    while time.monotonic() < ends:
        claim = await deps.documents.claim(lease_s=LEASE_S)
        if claim is None:
            await deps.documents.reclaim(deps.blobs.delete)
            return False
        async with _kept(claim, deps):
            await _parse(claim, env, deps)
        await deps.queue.nudge("embed")
    return True


async def _parse(claim: Claim, env: Env, deps: Deps) -> None:
    document = claim.document
    try:
        if claim.deaths >= MAX_DEATHS:
            raise Permanent(f"given up after {claim.deaths} attempts that ended without a word, as when memory runs out")
        with TemporaryDirectory(prefix="pilotis-parse-") as folder:
            path = Path(folder) / "content"
            await deps.blobs.fetch(document.sha256, path)
            parsed = await deps.parser.parse(path, name=document.name, media_type=document.media_type)
        cuts = await asyncio.to_thread(
            cut,
            parsed,
            document_id=document.id,
            size_tokens=env.passage_tokens,
            overlap_tokens=env.passage_overlap,
            languages=env.languages,
        )
        if not cuts:
            raise Permanent("no text was found in it")
        await deps.documents.stage(claim, parsed, cuts)
    except Transient as error:
        await _postpone(claim, error, deps)
    except Permanent as error:
        await _give_up(claim, "; ".join(filter(None, (error.message, error.remedy))), deps)
    except SetupError as error:
        await deps.documents.fail(document.id, claim.version, error.message, retry_in_s=LEASE_S)
        raise
    except PilotisError:
        raise
    except Exception as error:  # a bug of ours or a parser's: it belongs to this document and must not stop the others
        await _give_up(claim, f"unexpected {type(error).__name__}: {error}", deps)


async def _postpone(claim: Claim, error: Transient, deps: Deps) -> None:
    attempts = claim.document.attempts
    if attempts >= MAX_ATTEMPTS:
        await _give_up(claim, f"given up after {attempts} attempts: {error.message}", deps)
        return
    # Full jitter: many documents that failed together do not come back together.
    wait_s = random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, 2.0**attempts)  # noqa: S311
    await deps.documents.fail(claim.document.id, claim.version, error.message, retry_in_s=wait_s)


async def _give_up(claim: Claim, reason: str, deps: Deps) -> None:
    storable = reason.encode("utf-8", "backslashreplace").decode()
    await deps.documents.fail(claim.document.id, claim.version, storable)


@asynccontextmanager
async def _kept(claim: Claim, deps: Deps) -> AsyncIterator[None]:
    """Renew the lease while the block runs."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await deps.documents.renew(claim, lease_s=LEASE_S)
            except Transient:
                continue

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
