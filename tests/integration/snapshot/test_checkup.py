"""What `pilotis doctor --deep` asks the database: each fault is found by its check, and by no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pilotis.adapters.postgres import PostgresInventory
from pilotis.batch.checkup import CHECKS, finding

if TYPE_CHECKING:
    from integration.snapshot.conftest import Filled

FAULTS: dict[str, str] = {
    "passages_without_entry": "DELETE FROM entry WHERE key = (SELECT min(key) FROM entry)",
    "entries_without_passage": (
        "ALTER TABLE entry DROP CONSTRAINT entry_key_fkey;"
        "WITH gone AS (DELETE FROM passage WHERE key = (SELECT min(key) FROM passage) RETURNING document_id)"
        "UPDATE document SET passages = passages - 1 WHERE id IN (SELECT document_id FROM gone)"
    ),
    "passages_without_document": (
        "ALTER TABLE passage DROP CONSTRAINT passage_document_id_fkey; DELETE FROM document WHERE name = 'a.md'"
    ),
    "entries_unlike_document": "UPDATE document SET bu = 'south' WHERE name = 'a.md'",
    "drafts_left": (
        "INSERT INTO draft (document_id, version, ordinal, passage_id, text, indexed_text, headings, start_char, end_char, language,"
        " terms, weights) SELECT id, version, 0, 'x', '', '', '{}', 0, 0, 'en', '{}', '{}/1' FROM document WHERE name = 'b.md'"
    ),
    "documents_miscounted": "UPDATE document SET passages = passages + 1 WHERE name = 'b.md'",
    "documents_insane": "UPDATE document SET indexed_at = NULL WHERE name = 'b.md'",
    "documents_stuck": ("UPDATE document SET state = 'parsing', lease_until = now() - interval '1 day' WHERE name = 'b.md'"),
    "documents_without_blob_row": "DELETE FROM blob WHERE sha256 = (SELECT sha256 FROM document WHERE name = 'b.md')",
    "lexemes_miscounted": "UPDATE lexeme SET passages = passages + 1 WHERE term = (SELECT min(term) FROM lexeme)",
    "corpora_miscounted": "UPDATE corpus SET passages = passages - 1",
    "tallies_miscounted": "UPDATE tally SET micro = 1",
}
ALSO = {"passages_without_entry": {"lexemes_miscounted", "corpora_miscounted"}}
"""What is then miscounted besides, and rightly so."""


async def test_each_fault_is_found_by_its_check(filled: Filled) -> None:
    assert set(PostgresInventory(filled.pool).questions()) == set(FAULTS) <= set(CHECKS)
    assert await _wrong(filled, "SELECT 1") == {}
    for check, statement in FAULTS.items():
        wrong = await _wrong(filled, statement)
        assert set(wrong) - ALSO.get(check, set()) == {check}, check


async def test_it_says_how_many_of_how_many_and_which(filled: Filled) -> None:
    found = await _wrong(filled, "UPDATE document SET passages = 99 WHERE name <> 'c.md'")
    looked = found["documents_miscounted"]
    assert (looked.of, looked.count, len(looked.examples), looked.state) == (3, 2, 2, "error")
    assert looked.remedy


async def test_bytes_are_known_as_long_as_they_wait_to_be_removed(filled: Filled) -> None:
    inventory = PostgresInventory(filled.pool)
    a, b, c = (f"{n:064}" for n in range(3))
    assert await inventory.blobs() == {a: True, b: True, c: True}
    first = next(each for each in await filled.documents.find("north") if each.name == "a.md")
    await filled.documents.purged([n for n, _, _ in await filled.documents.to_purge()])
    await filled.documents.delete("north", first.id)
    assert await inventory.blobs() == {a: False, b: True, c: True}
    assert await inventory.known([first.id]) == {first.id}, "the caches have not been told yet"
    await filled.documents.purged([n for n, _, _ in await filled.documents.to_purge()])
    assert await inventory.known([first.id]) == set()


async def _wrong(filled: Filled, statement: str) -> dict[str, Any]:
    """The findings that are no `ok`, with the statement's changes in sight; they are undone afterwards."""
    async with filled.pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(statement.encode())

        class Pool:
            @asynccontextmanager
            async def connection(self) -> AsyncIterator[AsyncConnection]:
                yield connection

        inventory = PostgresInventory(cast("AsyncConnectionPool", Pool()))
        found = [finding(await inventory.ask(check)) for check in inventory.questions()]
        return {each.check: each for each in found if each.state != "ok"}
