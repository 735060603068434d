"""The rows that tell the truth about every document, and the one transaction that makes new content visible."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres.pool import translated
from pilotis.adapters.postgres.queries import statements
from pilotis.adapters.postgres.removal import take_out_everywhere
from pilotis.adapters.postgres.vectors import sparse_text, vector_text
from pilotis.errors import NotFound, Permanent, Transient
from pilotis.ports import Claim, Document, NewDocument, Pending, State
from pilotis.ports.generations import Generation
from pilotis.rag.lexical import passage_weights
from pilotis.rag.passage import Cut, Parsed, embedded_text

_SQL = statements("documents")
_INDEX = statements("passages")
_ACTIVE = statements("generations")["is_active"]
_DUMP = statements("dump")


class PostgresDocuments:
    """Documents and their passages. Every write is one transaction; every verb may run twice."""

    def __init__(self, pool: AsyncConnectionPool, generation: Generation) -> None:
        self._pool = pool
        self._generation = generation

    async def register(self, document: NewDocument) -> tuple[Document, bool]:
        key = {"bu": document.bu, "collection": document.collection, "name": document.name}
        fields = key | {
            "id": uuid4(),
            "sha256": document.sha256,
            "size": document.size,
            "media_type": document.media_type,
            "metadata": Jsonb(dict(document.metadata)),
        }
        async with translated(), self._pool.connection() as connection, connection.transaction():
            rows = connection.cursor(row_factory=dict_row)
            await rows.execute(_SQL["hold_blob"], {"sha256": document.sha256})
            row = await (await rows.execute(_SQL["register"], fields)).fetchone()
            if row is not None:
                await rows.execute(_INDEX["drop_drafts"], {"id": row["id"]})
                return document_of(row), True
            row = await (await rows.execute(_SQL["by_name"], key)).fetchone()
            assert row is not None
            return document_of(row), False

    async def get(self, bu: str, document_id: str) -> Document:
        """Raises NotFound, also for a document of another business unit."""
        row = None
        if (identity := _uuid(document_id)) is not None:
            async with translated(), self._pool.connection() as connection:
                rows = connection.cursor(row_factory=dict_row)
                row = await (await rows.execute(_SQL["get"], {"bu": bu, "id": identity})).fetchone()
        if row is None:
            raise NotFound(f"there is no document {document_id!r}", remedy="list them with GET /v1/documents")
        return document_of(row)

    async def find(
        self, bu: str, *, collection: str | None = None, state: State | None = None, limit: int = 100, after: str | None = None
    ) -> Sequence[Document]:
        """Newest first; `after` is the id of the last document of the page before. Raises NotFound where it is unknown."""
        cursor = None if after is None else UUID((await self.get(bu, after)).id)
        fields = {"bu": bu, "collection": collection, "state": state, "limit": limit, "after": cursor}
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            return [document_of(row) for row in await (await rows.execute(_SQL["find"], fields)).fetchall()]

    async def collections(self, bu: str) -> Mapping[str, int]:
        async with translated(), self._pool.connection() as connection:
            return dict(await (await connection.execute(_SQL["collections"], {"bu": bu})).fetchall())

    async def counts(self, bu: str, ids: Sequence[str] | None = None) -> Mapping[State, int]:
        wanted = None if ids is None else [identity for text in ids if (identity := _uuid(text)) is not None]
        async with translated(), self._pool.connection() as connection:
            return dict(await (await connection.execute(_SQL["counts"], {"bu": bu, "ids": wanted})).fetchall())

    async def delete(self, bu: str, document_id: str) -> None:
        """Row, passages, vectors and term counts go in one transaction. Raises NotFound. `reclaim` then frees the bytes."""
        identity = _uuid(document_id)
        async with translated(), self._pool.connection() as connection, connection.transaction():
            row = await (await connection.execute(_SQL["lock_of"], {"bu": bu, "id": identity})).fetchone()
            if row is None:
                raise NotFound(f"there is no document {document_id!r}", remedy="list them with GET /v1/documents")
            fields = {"id": identity, "bu": bu}
            await connection.execute(_INDEX["drop_drafts"], fields)
            assert identity is not None
            await take_out_everywhere(connection, identity, bu)
            await connection.execute(_SQL["delete"], fields)
            await connection.execute(_SQL["note_purge"], fields)

    async def adopt(self, digests: Sequence[str]) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["adopt"], {"digests": list(digests)})

    async def reclaim(self, drop: Callable[[str], Awaitable[None]]) -> int:
        async with translated(), self._pool.connection() as connection:
            found = await (await connection.execute(_SQL["unreferenced"])).fetchall()
            freed = 0
            for (sha256,) in found:
                async with connection.transaction():
                    if not await self._may_reclaim(connection):
                        break
                    # The row's lock makes a concurrent `register` of the same bytes wait; it then finds them gone and stores them again.
                    locked = await (await connection.execute(_SQL["lock_unreferenced"], {"sha256": sha256})).fetchone()
                    used = await (await connection.execute(_SQL["is_referenced"], {"sha256": sha256})).fetchone()
                    if locked is None or used is None or used[0]:
                        continue
                    await drop(sha256)
                    await connection.execute(_SQL["drop_blob"], {"sha256": sha256})
                    freed += 1
            return freed

    async def _may_reclaim(self, connection: AsyncConnection) -> bool:
        """Not while a snapshot copies bytes of documents that may be gone by now; what is left is dropped after it."""
        row = await (await connection.execute(_DUMP["may_reclaim"])).fetchone()
        return row is not None and bool(row[0])

    async def claim(self, *, lease_s: float) -> Claim | None:
        async with translated(), self._pool.connection() as connection:
            rows = connection.cursor(row_factory=dict_row)
            row = await (await rows.execute(_SQL["claim"], {"lease_s": lease_s})).fetchone()
        return None if row is None else Claim(document=document_of(row), version=row["version"], deaths=row["deaths"])

    async def renew(self, claim: Claim, *, lease_s: float) -> None:
        fields = {
            "id": UUID(claim.document.id),
            "version": claim.version,
            "attempts": claim.document.attempts,
            "lease_s": lease_s,
        }
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["renew"], fields)

    async def stage(self, claim: Claim, parsed: Parsed, cuts: Sequence[Cut]) -> None:
        document = claim.document
        identity = UUID(document.id)
        fields = {
            "id": identity,
            "generation": self._generation.id,
            "title": parsed.title,
            "language": _main_language(cuts),
            "pages": len(parsed.page_starts) or None,
            "warnings": Jsonb([_storable(warning) for warning in parsed.warnings]),
        }
        rows = [_draft(claim, parsed.title, cut) for cut in cuts]
        async with translated(), self._pool.connection() as connection, connection.transaction():
            await self._require_active(connection)
            if not await _is_current(connection, identity, claim.version, "parsing"):
                return
            await connection.execute(_SQL["take_time"])
            await connection.execute(_INDEX["drop_drafts"], fields)
            async with connection.cursor().copy(_INDEX["copy_drafts"]) as copy:
                for row in rows:
                    await copy.write_row(row)
            await connection.execute(_INDEX["reuse_vectors"], fields)
            await connection.execute(_SQL["staged"], fields)

    async def fail(self, document_id: str, version: int, error: str, *, retry_in_s: float | None = None) -> None:
        fields = {
            "id": UUID(document_id),
            "version": version,
            "error": _storable(error),
            "retry_in_s": retry_in_s,
        }
        async with translated(), self._pool.connection() as connection, connection.transaction():
            done = await connection.execute(_SQL["fail"], fields)
            if done.rowcount:
                await connection.execute(_INDEX["drop_drafts"], fields)

    async def pending(self, limit: int, *, lease_s: float) -> Sequence[Pending]:
        async with translated(), self._pool.connection() as connection:
            asked = {"limit": limit, "share": None, "lease_s": lease_s}
            rows = await (await connection.execute(_INDEX["pending"], asked)).fetchall()
            left = limit - len(rows)
            if rows and left:  # a unit had less than its share: the others take what it leaves
                asked |= {"limit": left, "share": left}
                rows += await (await connection.execute(_INDEX["pending"], asked)).fetchall()
        return [Pending(passage_id=p, document_id=str(d), version=v, bu=bu, text=text) for p, d, v, bu, text in rows]

    async def postpone(self, waiting: Sequence[Pending], reason: str) -> None:
        keys = sorted((UUID(pending.document_id), pending.version, pending.passage_id) for pending in waiting)
        async with translated(), self._pool.connection() as connection:
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(_INDEX["put_back"], keys)
            bus = sorted({pending.bu for pending in waiting})
            await connection.execute(_SQL["remark"], {"error": _storable(reason), "bus": bus})

    async def publish(self, embedded: Sequence[tuple[Pending, NDArray[np.float32]]]) -> Sequence[str]:
        # Sorted, so that two writers lock the same rows in the same order.
        vectors = [
            (vector_text(vector), UUID(pending.document_id), pending.version, pending.passage_id)
            for pending, vector in sorted(embedded, key=lambda pair: (pair[0].document_id, pair[0].passage_id))
        ]
        async with translated(), self._pool.connection() as connection:
            if vectors:
                async with connection.transaction(), connection.cursor() as cursor:
                    await cursor.executemany(_INDEX["store_vector"], vectors)
                bus = sorted({pending.bu for pending, _ in embedded})
                await connection.execute(_SQL["remark"], {"error": None, "bus": bus})  # vectors come again
                ids = sorted({row[1] for row in vectors})
                complete = await (await connection.execute(_INDEX["complete"], {"ids": ids})).fetchall()
            else:
                complete = await (await connection.execute(_INDEX["complete_anywhere"])).fetchall()
            return [str(identity) for identity, version in complete if await self._shown(connection, identity, version)]

    async def to_purge(self, *, limit: int = 1000) -> Sequence[tuple[int, str, str]]:
        async with translated(), self._pool.connection() as connection:
            return await (await connection.execute(_SQL["to_purge"], {"limit": limit})).fetchall()

    async def purged(self, numbers: Sequence[int]) -> None:
        async with translated(), self._pool.connection() as connection:
            await connection.execute(_SQL["purged"], {"numbers": list(numbers)})

    async def _require_active(self, connection: AsyncConnection) -> None:
        """Taken before any row of a document is locked, as a switch does. Raises Transient."""
        if await (await connection.execute(_ACTIVE, {"generation": self._generation.id})).fetchone() is None:
            raise Transient("another index generation is searched now: this process has to begin again")

    async def _shown(self, connection: AsyncConnection, identity: UUID, version: int) -> bool:
        """Swap; a document that the database refuses fails by itself and holds up no other."""
        try:
            async with translated():
                return await self._swap(connection, identity, version)
        except Permanent as error:
            await self.fail(str(identity), version, error.message)
            return False

    async def _swap(self, connection: AsyncConnection, identity: UUID, version: int) -> bool:
        """Old passages out, new ones in, counters right: all or nothing."""
        async with connection.transaction():
            await self._require_active(connection)
            if not await _is_current(connection, identity, version, "embedding"):
                return False
            row = await (await connection.execute("SELECT bu FROM document WHERE id = %s", (identity,))).fetchone()
            assert row is not None
            await connection.execute(_SQL["take_time"])
            fields = {"id": identity, "bu": row[0], "generation": self._generation.id}
            for statement in ("count_terms", "count_passages", "forget_terms", "drop_passages"):
                await connection.execute(_INDEX[statement], fields)
            published = await connection.execute(_INDEX["publish"], fields)
            await connection.execute(_INDEX["drop_drafts"], fields)
            await connection.execute(_SQL["published"], fields | {"passages": published.rowcount})
            await connection.execute(_SQL["note_purge"], fields)
            return True


async def _is_current(connection: AsyncConnection, identity: UUID, version: int, state: State) -> bool:
    """Lock the row; False where the document was deleted, replaced or finished meanwhile."""
    row = await (await connection.execute(_SQL["lock"], {"id": identity})).fetchone()
    return row is not None and row == (version, state)


def _draft(claim: Claim, title: str | None, cut: Cut) -> tuple[Any, ...]:
    text = embedded_text(title, cut.headings, cut.text)
    weights = passage_weights(text, language=cut.language, scope=claim.document.bu)
    where = (UUID(claim.document.id), claim.version, cut.ordinal, cut.id)
    what = (cut.text, text, list(cut.headings), cut.page, cut.start, cut.end, cut.language)
    return (*where, *what, sorted(weights), sparse_text(weights))


def _main_language(cuts: Iterable[Cut]) -> str | None:
    sizes: dict[str, int] = {}
    for cut in cuts:
        sizes[cut.language] = sizes.get(cut.language, 0) + len(cut.text)
    return max(sizes, key=lambda language: sizes[language]) if sizes else None


def document_of(row: DictRow) -> Document:
    """The record of a row of `document`."""
    hidden = ("version", "next_try_at", "lease_until", "staged", "deaths")
    seen = {name: value for name, value in row.items() if name not in hidden}
    return Document(**seen | {"id": str(row["id"]), "warnings": tuple(row["warnings"])})


def _storable(reason: str) -> str:
    return reason[:2000].replace("\0", "")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except (ValueError, AttributeError):
        return None
