"""/v1/documents over stand-ins: uploads bounded while reading, nothing half-written, the rest of a batch goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

FORM = {"content-type": "multipart/form-data; boundary=b"}


def part(name: str, content: bytes, *, filename: bytes | None = None, head: bytes = b"") -> bytes:
    given = b'; filename="' + filename + b'"' if filename is not None else b""
    return (
        b'--b\r\nContent-Disposition: form-data; name="'
        + name.encode()
        + b'"'
        + given
        + b"\r\n"
        + head
        + b"\r\n"
        + content
        + b"\r\n"
    )


def check_refused(response: Any, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in response.json()["detail"], response.text


def test_a_document_is_stored_acknowledged_and_announced(client: TestClient, world: Any) -> None:
    sent = client.post(
        "/v1/documents",
        files={"file": ("keys.md", b"# Keys", "text/markdown")},
        data={"collection": "handbook", "metadata": '{"team": "platform"}'},
    )
    assert sent.status_code == 202, sent.text
    row = sent.json()["documents"][0]
    assert (row["name"], row["collection"], row["state"], row["changed"]) == ("keys.md", "handbook", "received", True)
    assert row["metadata"] == {"team": "platform"}
    assert row["media_type"] == "text/markdown"
    assert "bu" not in row
    assert world.blobs == {row["sha256"]: b"# Keys"}
    assert world.nudges == ["ingest"]
    assert list(world.spool.iterdir()) == []
    again = client.post(
        "/v1/documents", files={"file": ("keys.md", b"# Keys", "text/markdown")}, data={"collection": "handbook"}
    )
    assert again.json()["documents"][0]["changed"] is False
    assert world.nudges == ["ingest"]


def test_of_many_files_the_good_ones_go_in(client: TestClient, world: Any) -> None:
    files = [(b"a.md", b"a"), (b"empty.md", b""), (b"b\x0bc.md", b"c"), (b"d.md", b"d")]
    body = b"".join(part("file", content, filename=name) for name, content in files) + b"--b--\r\n"
    sent = client.post("/v1/documents", content=body, headers=FORM)
    assert sent.status_code == 202
    assert [row["name"] for row in sent.json()["documents"]] == ["a.md", "d.md"]
    refused = {item["name"]: item["problem"] for item in sent.json()["refused"]}
    assert "empty" in refused["empty.md"]["detail"]
    assert all(problem["status"] == 422 for problem in refused.values())
    assert len(refused) == 2
    assert len(world.documents) == 2


def test_a_file_that_is_too_large_does_not_stop_those_behind_it(client: TestClient, world: Any) -> None:
    files = [(b"a.md", b"a"), (b"big.md", b"x" * 600_000), (b"c.md", b"c")]
    body = b"".join(part("file", content, filename=name) for name, content in files) + b"--b--\r\n"
    sent = client.post("/v1/documents", content=body, headers=FORM)
    assert sent.status_code == 202
    assert [row["name"] for row in sent.json()["documents"]] == ["a.md", "c.md"]
    (refused,) = sent.json()["refused"]
    assert refused["problem"]["status"] == 413
    assert "'big.md' has 600,000 bytes; the most is 200,000" in refused["problem"]["detail"]
    assert sorted(world.blobs.values()) == [b"a", b"c"]


@pytest.mark.parametrize("path", ["/v1/documents", "/v1/ask", "/nowhere"])
@pytest.mark.parametrize("key", ["north", "nobody"])
def test_a_refused_body_is_read_to_its_end_so_that_the_answer_arrives(client: TestClient, path: str, key: str) -> None:
    read = 0

    def pieces() -> Any:
        nonlocal read
        for _ in range(40):
            yield b"x" * 100_000
            read += 1

    refused = client.post(path, content=pieces(), headers={"authorization": f"Bearer {key}", "content-type": "text/plain"})
    assert refused.status_code in {401, 404, 415}
    assert read == 40


def test_a_client_that_leaves_half_way_is_no_failure(app: FastAPI, world: Any) -> None:
    messages = iter([{"type": "http.request", "body": b"--b\r\n", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"authorization", b"Bearer north"),
        (b"content-type", FORM["content-type"].encode()),
        (b"content-length", b"99"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/v1/documents", "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    assert sent == []
    assert list(world.spool.iterdir()) == []


def test_a_name_given_twice_does_not_replace_the_first(client: TestClient, world: Any) -> None:
    files = [(b"/x/a.md", b"one"), (b"/y/a.md", b"two")]
    body = b"".join(part("file", content, filename=name) for name, content in files) + b"--b--\r\n"
    sent = client.post("/v1/documents", content=body, headers=FORM)
    assert [row["name"] for row in sent.json()["documents"]] == ["a.md"]
    assert "twice" in sent.json()["refused"][0]["problem"]["detail"]
    assert list(world.blobs.values()) == [b"one"]


def test_content_arrives_byte_for_byte(client: TestClient, world: Any) -> None:
    content = bytes(range(256)) * 700 + b"\r\n--c not the end\r\n--"
    body = part("file", content, filename="binaire é.bin".encode()) + b"--b--\r\n"
    sent = client.post("/v1/documents", content=body, headers=FORM)
    assert sent.json()["documents"][0]["name"] == "binaire é.bin"
    assert list(world.blobs.values()) == [content]


def test_a_file_over_the_bound_is_refused_while_it_is_read(client: TestClient, world: Any) -> None:
    def pieces() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
        for _ in range(400):
            yield b"x" * 1_000_000

    check_refused(client.post("/v1/documents", content=pieces(), headers=FORM), 413, "big.bin", "200,000")
    assert not world.blobs
    assert not world.documents
    assert list(world.spool.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        pytest.param(b"", 422, "breaks off", id="no body"),
        pytest.param(b"--b--\r\n", 422, "no file", id="no parts"),
        pytest.param(b"nonsense", 422, "cannot be read", id="nonsense"),
        pytest.param(part("file", b"half", filename=b"a.md"), 422, "breaks off", id="cut short"),
        pytest.param(part("file", b"text") + b"--b--\r\n", 422, "has no filename", id="a file without its name"),
        pytest.param(part("file", b"", filename=b"a.md") + b"--b--\r\n", 422, "empty", id="an empty file"),
        pytest.param(part("file", b"a", filename=b"") + b"--b--\r\n", 422, "name is empty", id="an empty name"),
        pytest.param(part("file", b"a", filename=b"\xff\xfe") + b"--b--\r\n", 422, "not UTF-8", id="a name that is not UTF-8"),
        pytest.param(part("file", b"a", filename=b"a\0b") + b"--b--\r\n", 422, "NUL", id="NUL in a name"),
        pytest.param(part("file", b"a", filename=b"n" * 2000) + b"--b--\r\n", 422, "1,024", id="a name of 2000 bytes"),
        pytest.param(
            part("colection", b"x") + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "'collection'", id="a typo"
        ),
        pytest.param(
            part("metadata", b"{") + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "not JSON", id="half metadata"
        ),
        pytest.param(
            part("metadata", b"[1]") + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "object", id="metadata a list"
        ),
        pytest.param(
            part("metadata", b'{"a":"\\u0000"}') + part("file", b"a", filename=b"a") + b"--b--\r\n",
            422,
            "NUL",
            id="metadata NUL",
        ),
        pytest.param(
            part("metadata", b'{"a":"\\ud800"}') + part("file", b"a", filename=b"a") + b"--b--\r\n",
            422,
            "stored",
            id="metadata surrogate",
        ),
        pytest.param(
            part("metadata", b'{"a":NaN}') + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "stored", id="metadata NaN"
        ),
        pytest.param(
            part("metadata", b"[" * 50_000) + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "JSON", id="deep metadata"
        ),
        pytest.param(
            part("metadata", b'{"a":' + b"[" * 30 + b"]" * 30 + b"}") + part("file", b"a", filename=b"a") + b"--b--\r\n",
            422,
            "deeper than 20",
            id="metadata nested",
        ),
        pytest.param(
            part("metadata", b"x" * 70_000) + part("file", b"a", filename=b"a") + b"--b--\r\n",
            413,
            "65,536",
            id="much metadata",
        ),
        pytest.param(
            part("collection", b"a") * 2 + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "twice", id="a field twice"
        ),
        pytest.param(
            part("collection", b"\0") + part("file", b"a", filename=b"a") + b"--b--\r\n", 422, "NUL", id="NUL collection"
        ),
        pytest.param(
            part("collection", b"a\nb") + part("file", b"a", filename=b"a") + b"--b--\r\n",
            422,
            "collection",
            id="newline collection",
        ),
        pytest.param(
            b"".join(part("file", b"a", filename=b"%d" % n) for n in range(101)) + b"--b--\r\n",
            413,
            "100 files",
            id="101 files",
        ),
        pytest.param(b"--b\r\n" + b"X-H: y\r\n" * 50 + b"\r\n", 422, "cannot be read", id="50 headers"),
    ],
)
def test_a_bad_form_is_refused_whole(client: TestClient, world: Any, content: bytes, status: int, word: str) -> None:
    check_refused(client.post("/v1/documents", content=content, headers=FORM), status, word)
    assert not world.documents
    assert list(world.spool.iterdir()) == []


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "multipart/mixed; boundary=b"])
def test_another_content_type_is_415(client: TestClient, media_type: str) -> None:
    check_refused(client.post("/v1/documents", content=b"{}", headers={"content-type": media_type}), 415, "content type")


def test_a_form_without_boundary_is_refused(client: TestClient) -> None:
    check_refused(
        client.post("/v1/documents", content=b"--b--", headers={"content-type": "multipart/form-data"}), 422, "boundary"
    )


def test_pages_follow_one_another(client: TestClient) -> None:
    client.post("/v1/documents", files=[("file", (f"{n}.md", b"%d" % n)) for n in range(5)])
    first = client.get("/v1/documents?limit=2").json()
    second = client.get(f"/v1/documents?limit=3&after={first['next']}").json()
    third = client.get(f"/v1/documents?limit=3&after={second['next']}").json()
    names = [row["name"] for page in (first, second, third) for row in page["documents"]]
    assert names == ["0.md", "1.md", "2.md", "3.md", "4.md"]
    assert third["next"] is None
    assert client.get("/v1/documents?state=failed").json() == {"documents": [], "next": None}
    assert client.get("/v1/documents?collection=other").json()["documents"] == []


def test_deleted_is_gone_with_its_bytes(client: TestClient, world: Any, stored: str) -> None:
    assert client.delete(f"/v1/documents/{stored}").status_code == 204
    assert client.get(f"/v1/documents/{stored}").status_code == 404
    assert client.delete(f"/v1/documents/{stored}").status_code == 404
    assert not world.blobs


def test_a_deletion_is_acknowledged_once_the_cached_answers_are_gone(client: TestClient, world: Any, stored: str) -> None:
    question = {"question": "How are keys rotated?"}
    assert client.post("/v1/ask", json=question).json()["cache"] == "miss"
    assert client.post("/v1/ask", json=question).json()["cache"] == "hit"
    world.away = {"redis"}
    refused = client.delete(f"/v1/documents/{stored}")
    assert refused.status_code == 503
    assert "cached answers made from it are not yet" in refused.json()["detail"]
    assert client.get(f"/v1/documents/{stored}").status_code == 404
    assert len(world.purges) == 1, "it is noted"
    world.away = set()


def test_metadata_shows_as_it_was_sent(client: TestClient) -> None:
    metadata = {"équipe": "plateforme", "n": 1, "ok": True, "none": None}
    sent = client.post("/v1/documents", files={"file": ("a.md", b"a")}, data={"metadata": json.dumps(metadata)})
    assert sent.json()["documents"][0]["metadata"] == metadata
