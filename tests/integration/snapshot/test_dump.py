"""All tables of a real database, as of one moment, and back."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from pilotis import wiring
from pilotis.adapters import postgres
from pilotis.adapters.archive.daily import snapshot_if_due
from pilotis.adapters.archive.folder import FolderArchive
from pilotis.adapters.blobs import FolderBlobs
from pilotis.adapters.postgres.schema import upgrade_on
from pilotis.adapters.redis import RedisMoney
from pilotis.batch.manifest import Manifest, Owner
from pilotis.batch.restore import restore
from pilotis.batch.snapshot import create, verify
from pilotis.cli.restore import forget_caches
from pilotis.cli.shelf import Opened
from pilotis.contract import load
from pilotis.control.trail import verify as verify_trail
from pilotis.derive import plan
from pilotis.derive.budget import Budgets
from pilotis.embedded import Addresses
from pilotis.errors import Conflict, Permanent, SetupError
from pilotis.online import booking
from pilotis.ports import CostEvent, Kept, NewDocument, Request
from pilotis.testing.ledger import MemoryLedger
from pilotis.testing.online import HashingEmbedder

OWNER = Owner(contract="rag", env="dev", digest="0" * 64)
FILL = """
INSERT INTO generation (model, dimension, analysis, state) VALUES ('m', 3, 1, 'active');
CREATE INDEX entry_embedding_1 ON entry USING hnsw ((embedding::halfvec(3)) halfvec_ip_ops) WHERE generation = 1;
INSERT INTO document (id, bu, collection, name, sha256, size, media_type, metadata, state, title)
SELECT gen_random_uuid(), 'é"''\\', 'c', 'n' || n, repeat('0', 64), n, 'text/plain', '{"a": [1, null, "\\u00e9"]}', 'indexed', NULL
FROM generate_series(1, 50) n;
INSERT INTO passage (generation, id, document_id, ordinal, text, indexed_text, headings, start_char, end_char, language)
SELECT 1, 'p' || name, id, 0, E'line\\n\\ttab \\\\ \U0001f600', '', ARRAY['a', 'b,"c'], 0, 1, 'en' FROM document;
INSERT INTO entry (key, generation, bu, collection, metadata, embedding, terms, weights)
SELECT key, 1, 'b', 'c', '{}', '[0.1,-2.5,65504]', '{-5,7}', '{1:0.25,999:-3}/1000000000' FROM passage;
INSERT INTO ledger (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, priced)
SELECT 'e' || n, now(), 'dev', 'online', 'b', 'answer', 's', 'm', '{}', 0.000000100001 * n, 'book', true FROM generate_series(1, 99) n;
INSERT INTO api_key (id, bu, name, prefix, digest) VALUES ('00000000-0000-0000-0000-000000000009', 'b', 'old', 'plt', '\\x00ff');
INSERT INTO api_key (id, bu, name, prefix, digest, rotated_from)
VALUES ('00000000-0000-0000-0000-000000000001', 'b', 'new', 'plt', '\\x01', '00000000-0000-0000-0000-000000000009');
INSERT INTO purge (bu, document_id) SELECT 'b', id FROM document;
DELETE FROM purge;
"""
RELEASED = """
INSERT INTO release (env, id, settings, contract, author, created_at, note) VALUES ('dev', 'a', '{"top_k=8"}', 'c', 'ada', now(), '');
INSERT INTO stable_release VALUES ('dev', 'a');
INSERT INTO rollout (env, id, state, has_ended, version, body) VALUES ('dev', 'r', 'progressing', false, 4, '{"stages": [5, 100]}');
INSERT INTO release_lease VALUES ('dev', 'gone', 7, now() - interval '1 s');
INSERT INTO approval VALUES ('dev', 'r', 'sre', 'key', now(), now(), 'e', 's');
INSERT INTO split VALUES ('dev', 'a', 'b', 5);
INSERT INTO seen VALUES ('dev', 'i', 'http://127.0.0.1:1', NULL, 'a', 'b', 5, '{"b": 1}', now());
INSERT INTO traffic VALUES ('dev', 'b', now(), 'i', 2, 1, '{2}', 1, 0.000001, 0.000000000001, NULL);
INSERT INTO examination VALUES ('dev', 'r', 'b', 'q1', true);
"""
OLD_FILL = FILL.replace("passage (generation, id", "passage (id").replace("SELECT 1, 'p'", "SELECT 'p'")
"""The same as it was before there could be several generations."""


class Place:
    """A database, an archive and a folder of bytes."""

    def __init__(self, url: str, archive: FolderArchive, blobs: FolderBlobs) -> None:
        self.url, self.archive, self.blobs = url, archive, blobs
        self.dump = postgres.PostgresDump(url)

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def all(self) -> dict[str, Any]:
        """Every row of every table as text, every index and constraint."""
        with psycopg.connect(self.url) as connection:
            names = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
            found: dict[str, Any] = {
                name: connection.execute(sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(name))).fetchall()
                for name in sorted(names)
            }
            found["indexes"] = connection.execute(
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
            ).fetchall()
            found["constraints"] = connection.execute(
                "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
                "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
            ).fetchall()
            return found

    async def create(self) -> Manifest:
        return await create(self.archive, self.dump, self.blobs, OWNER, now=datetime.now(UTC))

    async def restore(self, made: Manifest) -> None:
        await restore(self.archive, self.dump, self.blobs, made, forget=_nothing)


async def _nothing() -> None: ...


@pytest.fixture
def new_place(new_database: Callable[[], str], tmp_path: Path) -> Callable[[], Place]:
    """A place without a schema; all of a test share one archive and one folder of bytes."""
    archive, blobs = FolderArchive(tmp_path / "archive"), FolderBlobs(tmp_path / "blobs")
    return lambda: Place(new_database(), archive, blobs)


@pytest.fixture
async def place(new_place: Callable[[], Place]) -> Place:
    made = new_place()
    await postgres.migrate(made.url)
    return made


async def test_everything_comes_back_as_it_was(place: Place, new_place: Callable[[], Place]) -> None:
    place.run(FILL)
    made = await place.create()
    assert made.missing == ("0" * 64,)
    assert {each.table.name: each.rows for each in made.tables if each.rows} == {
        "api_key": 2,
        "document": 50,
        "entry": 50,
        "generation": 1,
        "ledger": 99,
        "passage": 50,
        "schema_floor": 1,
    }
    assert (await verify(place.archive, place.dump, made)).faults == ()
    other = new_place()
    await other.restore(made)
    assert other.all() == place.all()
    assert (await other.dump.standing()).ledger == made.ledger == (await place.dump.standing()).ledger


async def test_numbers_go_on_where_they_were(place: Place, new_place: Callable[[], Place]) -> None:
    place.run(FILL)
    made = await place.create()
    other = new_place()
    await other.restore(made)
    insert = "INSERT INTO purge (bu, document_id) SELECT 'b', id FROM document LIMIT 1 RETURNING n"
    for each in (place, other):
        with psycopg.connect(each.url) as connection:
            assert connection.execute(insert.encode()).fetchall() == [(51,)]


async def test_what_was_there_is_replaced(place: Place) -> None:
    place.run(FILL)
    made, before = await place.create(), place.all()
    place.run("DELETE FROM document; UPDATE ledger SET bu = 'x'; DROP INDEX entry_terms; ALTER TABLE purge DROP COLUMN bu")
    await place.restore(made)
    assert place.all() == before


async def test_the_trail_of_releases_comes_back_whole_goes_on_and_is_still_only_added_to(place: Place) -> None:
    async with releases_of(place) as releases:
        for n in range(3):
            await releases.note(actor="ada", action="x", rollout=None, figures={"n": n})
    made = await place.create()
    async with releases_of(place) as releases:
        await releases.note(actor="ada", action="after the snapshot", rollout=None, figures={})
    await place.restore(made)
    async with releases_of(place) as releases:
        assert [line["n"] for line in await releases.trail()] == [1, 2, 3]
        await releases.note(actor="ada", action="after the restore", rollout=None, figures={})
        found = await releases.trail()
        assert verify_trail(found, last=await releases.last()) == []
        assert [line["action"] for line in found][-2:] == ["x", "after the restore"]
    with pytest.raises(psycopg.errors.RaiseException, match="only added to"):
        place.run("DELETE FROM trail")


async def test_what_a_release_leaves_behind_survives_and_its_lease_goes_on(
    place: Place, new_place: Callable[[], Place]
) -> None:
    """Everything is of the same moment, what is seen each second too: a rollout comes back with the split it had."""
    place.run(RELEASED)
    made, other = await place.create(), new_place()
    await other.restore(made)
    assert other.all() == place.all()
    async with releases_of(other) as releases:
        assert await releases.lease("next", ttl_s=1) == 8


@asynccontextmanager
async def releases_of(place: Place) -> AsyncIterator[postgres.PostgresReleases]:
    pool = await postgres.open_pool(place.url)
    try:
        yield postgres.PostgresReleases(pool, env="dev")
    finally:
        await pool.close()


async def test_a_table_nobody_told_us_of_is_in_it(place: Place) -> None:
    place.run('CREATE TABLE "later ""one""" (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED)')
    place.run('INSERT INTO "later ""one""" (a) VALUES (21)')
    made = await place.create()
    later = next(each for each in made.tables if each.table.name == 'later "one"')
    assert (later.table.columns, later.rows) == (("a",), 1)


async def test_a_snapshot_is_of_one_moment(place: Place, new_place: Callable[[], Place]) -> None:
    """Each transaction writes one event and one tally: whatever moment it is, the two agree."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(place.url, autocommit=True) as connection:
            n = 0
            while not stop.is_set():
                n += 1
                with connection.transaction():
                    connection.execute(
                        "INSERT INTO ledger (id, at, env, plane, bu, kind, subject, model, usage, cost_eur, price_book, priced)"
                        " VALUES (%s, '2026-01-01', 'dev', 'online', 'b', 'answer', 's', 'm', '{}', 0.000001, 'b', true)",
                        (f"e{n}",),
                    )
                    connection.execute(
                        "INSERT INTO tally AS t VALUES ('dev', '2026-01-01', 'online', 'b', '', 1)"
                        " ON CONFLICT (env, quarter, plane, bu, key) DO UPDATE SET micro = t.micro + 1"
                    )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        await asyncio.sleep(0.1)
        made = [await place.create() for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    assert made[0].rows("ledger") < made[2].rows("ledger")
    other = new_place()
    for each in made:
        await other.restore(each)
        assert other.rows("SELECT count(*), sum(micro), (SELECT sum(micro) FROM tally) FROM ledger") == [
            (each.rows("ledger"),) * 3
        ]
        assert each.ledger.events == each.ledger.micro == each.rows("ledger")


async def test_an_older_schema_is_migrated_after_it_was_loaded(new_place: Callable[[], Place]) -> None:
    old, new = new_place(), new_place()
    with create_engine(old.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool).begin() as connection:
        upgrade_on(connection, "0004")
    old.run(OLD_FILL.split("INSERT INTO purge", maxsplit=1)[0])
    made = await old.create()
    assert made.schema == "0004"
    await new.restore(made)
    await postgres.migrate(old.url)
    assert (await new.dump.standing()).schema == (await old.dump.standing()).schema != "0004"
    assert new.all() == old.all()


async def test_a_newer_schema_is_refused_and_nothing_changed(place: Place) -> None:
    place.run(FILL)
    place.run("UPDATE alembic_version SET version_num = '9999'")
    made = await place.create()
    before = place.all()
    with pytest.raises(SetupError, match=r"9999.*newer"):
        await place.restore(made)
    assert place.all() == before


async def test_a_restore_that_breaks_off_leaves_what_was(place: Place) -> None:
    place.run(FILL)
    made = await place.create()
    place.run("DELETE FROM document WHERE name = 'n1'")
    before = place.all()
    with pytest.raises(RuntimeError):
        async with place.dump.writing(schema=made.schema):
            raise RuntimeError("killed")
    assert place.all() == before
    broken = made.tables[-1].file.name
    path = Path(place.archive.where) / broken
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Permanent, match=broken):
        await place.restore(made)
    assert place.all() == before


async def test_it_is_not_done_under_somebody_s_feet(place: Place) -> None:
    made = await place.create()
    with psycopg.connect(place.url) as _, pytest.raises(Conflict, match="other connections"):
        await place.restore(made)
    async with place.dump.reading():
        with pytest.raises(Conflict, match="being taken"):
            await place.create()


async def test_the_bytes_of_a_document_deleted_meanwhile_are_kept_until_they_are_copied(place: Place, tmp_path: Path) -> None:
    pool = await postgres.open_pool(place.url)
    documents = postgres.PostgresDocuments(pool, await postgres.open_generation(pool, HashingEmbedder()))
    content = tmp_path / "content"
    content.write_bytes(b"to be deleted")
    digest, size = await place.blobs.put(content)
    document, _ = await documents.register(
        NewDocument(bu="b", collection="c", name="n", sha256=digest, size=size, media_type="text/plain")
    )
    try:
        async with place.dump.reading() as reading:
            await documents.delete("b", document.id)
            assert await documents.reclaim(place.blobs.delete) == 0
            assert await reading.blobs() == [(digest, size)]
            await reading.let_go()
            assert await documents.reclaim(place.blobs.delete) == 0
            assert await place.blobs.exists(digest)
        assert await documents.reclaim(place.blobs.delete) == 1
        assert not await place.blobs.exists(digest)
    finally:
        await pool.close()


async def test_rows_that_are_cut_off_are_not_counted(place: Place) -> None:
    place.run(FILL)
    async with place.dump.reading() as reading:
        table = next(table for table in reading.tables if table.name == "ledger")
        content = b"".join([chunk async for chunk in reading.copy(table)])
        assert reading.rows(table) == 99

    async def parts(data: bytes, size: int) -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    for size in (3, 1 << 20):
        assert await place.dump.count(parts(content, size)) == 99
        for cut in (0, 5, 18, 20, 21, 30, -3, -1):
            with pytest.raises(Permanent, match="cut off"):
                await place.dump.count(parts(content[:cut], size))
    with pytest.raises(Permanent, match="does not hold rows"):
        await place.dump.count(parts(b"x" * 40, 40))
    assert content.endswith(struct.pack("!h", -1))


async def test_of_processes_that_look_at_the_clock_together_one_takes_it(place: Place, tmp_path: Path) -> None:
    contract = f"""
        timezone = "UTC"
        [envs.dev.snapshot]
        place = "{tmp_path / "daily"}"
        hour = 0
    """
    derived = plan.derive(load.parse(contract, Path("pilotis.toml")))
    env = derived.env("dev")

    async def look() -> Manifest | None:
        return await snapshot_if_due(derived, env, database_url=place.url, blobs=place.blobs)

    made = [each for each in await asyncio.gather(*(look() for _ in range(4))) if each]
    assert len(made) == 1
    assert (made[0].owner.env, made[0].owner.digest) == ("dev", derived.digest)
    assert await look() is None
    none = plan.derive(load.default())
    assert await snapshot_if_due(none, none.env("dev"), database_url=place.url, blobs=place.blobs) is None


async def test_nothing_that_was_cached_before_is_served_after(place: Place, stack: Addresses) -> None:
    """The counters are made anew from the ledger, too, and costs on their way to it are kept."""
    derived = plan.derive(load.default())
    env = replace(derived.env("dev"), budgets=Budgets())
    money = RedisMoney(stack.redis_url, env=env, namespace=wiring.namespace(derived, env), instance="api")
    try:
        await booking.open_books(money.outbox, MemoryLedger(), instance="api", zone=env.timezone)
        admitted = await money.admission.admit(Request(id="r1", plane="online", bu="b", ceilings=(0,)))
        event = CostEvent(
            id="r1",
            at=admitted.hold.at,
            env="dev",
            plane="online",
            bu="b",
            kind="answer",
            subject="s",
            model="m",
            usage={},
            cost_eur=Decimal(0),
            price_book="",
            fx=None,
            priced=True,
        )
        kept = Kept(answer_key="a", record=b"answer", ttl_s=60, documents=("d1",))
        await money.admission.settle(admitted.hold, event, kept)
        assert (await money.cache.peek("b", "a"))[0]
        owner = Owner(contract=derived.contract.name, env="dev", digest="")
        addresses = stack._replace(database_url=place.url)
        opened = Opened(
            archive=place.archive, dump=place.dump, blobs=place.blobs, owner=owner, plan=derived, env=env, addresses=addresses
        )
        await forget_caches(opened)
        assert (await money.cache.peek("b", "a"))[0] is None
        assert await money.cache.sources() == set()
        assert not await money.outbox.is_seeded()
        assert [each.id for _, each in await money.outbox.read(limit=10)] == ["r1"]
    finally:
        await money.close()
