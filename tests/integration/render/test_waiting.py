"""What KEDA counts, on the real schema: as many workers are wanted as there is work for, ready or in hand."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render.files import scene
from pilotis.render.kubernetes.common import Place, place
from pilotis.render.kubernetes.scaling import query

Connection = psycopg.Connection[tuple[int]]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """Whatever a test writes is gone after it."""
    with psycopg.connect(database) as opened:
        yield opened
        opened.rollback()


def prod() -> Place:
    on = scene(derive(load.default()))
    return place(on, on.sites["prod"])


def count(connection: Connection, queue: str) -> int:
    found = connection.execute(query(prod(), queue).encode()).fetchall()
    ((number,),) = found
    return number


def document(connection: Connection, state: str, *, bu: str = "sales", due: str = "now()", lease: str = "NULL") -> str:
    identity = str(uuid4())
    connection.execute(
        "INSERT INTO document (id, bu, collection, name, sha256, size, media_type, metadata, state, next_try_at, lease_until) "
        f"VALUES (%s, %s, 'c', %s, 'x', 1, 'text/plain', '{{}}', %s, {due}, {lease})".encode(),
        (identity, bu, identity, state),
    )
    return identity


def draft(connection: Connection, identity: str, ordinal: int, *, claimed: str = "NULL", vector: str = "NULL") -> None:
    connection.execute(
        "INSERT INTO draft (document_id, version, ordinal, passage_id, text, indexed_text, headings, start_char, end_char, language, "
        f"terms, weights, embedding, claimed_until) VALUES (%s, 1, %s, %s, 't', 't', '{{}}', 0, 1, 'en', '{{}}', '{{}}/9', {vector}, {claimed})".encode(),
        (identity, ordinal, f"{identity}-{ordinal}"),
    )


def pause(connection: Connection, queue: str, bu: str) -> None:
    connection.execute("INSERT INTO turn (queue, bu, paused_until) VALUES (%s, %s, now() + interval '1 hour')", (queue, bu))


def test_documents_to_read_are_those_that_are_due_and_those_in_hand(connection: Connection) -> None:
    assert count(connection, "ingest") == 0
    document(connection, "received")
    document(connection, "parsing", lease="now() + interval '1 minute'", due="now() + interval '1 minute'")
    document(connection, "parsing", lease="now() - interval '1 minute'")
    assert count(connection, "ingest") == 3
    document(connection, "received", due="now() + interval '1 hour'")
    document(connection, "indexed")
    document(connection, "failed")
    document(connection, "embedding")
    assert count(connection, "ingest") == 3


def test_what_rests_wants_no_worker_unless_somebody_has_it_in_hand(connection: Connection) -> None:
    document(connection, "received")
    document(connection, "parsing", lease="now() + interval '1 minute'")
    document(connection, "received", bu="legal")
    pause(connection, "ingest", "sales")
    assert count(connection, "ingest") == 2
    pause(connection, "ingest", "*")
    assert count(connection, "ingest") == 1
    pause(connection, "embed", "*")
    assert count(connection, "ingest") == 1


def test_passages_to_embed_are_counted_and_documents_that_are_to_be_completed(connection: Connection) -> None:
    assert count(connection, "embed") == 0
    whole = document(connection, "embedding")
    draft(connection, whole, 1, vector="'[1,0]'")
    assert count(connection, "embed") == 1, "nothing is left to embed, and yet somebody has to complete it"
    part = document(connection, "embedding", bu="legal")
    draft(connection, part, 1)
    draft(connection, part, 2, claimed="now() + interval '1 minute'")
    assert count(connection, "embed") == 4
    pause(connection, "embed", "legal")
    assert count(connection, "embed") == 3, "the document and the passage in hand"


def test_runs_to_carry_out_are_those_of_this_env_that_a_worker_was_asked_for(connection: Connection) -> None:
    def run(state: str, *, env: str = "prod", ordered: str | None = "{}") -> None:
        connection.execute(
            "INSERT INTO evaluation (id, env, bu, at, state, golden, digest, questions, config, figures, ordered) "
            "VALUES (%s, %s, 'sales', now(), %s, 'g', 'd', 1, '{}', '{}', %s)",
            (str(uuid4()), env, state, ordered),
        )

    run("waiting")
    run("running")
    assert count(connection, "eval") == 2
    run("running", ordered=None)
    run("done", ordered=None)
    run("waiting", env="staging")
    assert count(connection, "eval") == 2
