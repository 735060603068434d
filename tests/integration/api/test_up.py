"""The whole service as a user runs it: real servers, real workers, real files, real kills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

KEYS_MD = """# Keys

## Rotation

Create the new key first, move the callers to it, then revoke the old one. A revoked key stops working at once.

## Storage

Keys are stored as a SHA-256 digest; the secret itself is shown once, when the key is made.
"""
CONGES_MD = """# Congés

Les salariés posent leurs congés dans l'outil interne au moins quinze jours avant le départ. Le responsable répond sous trois jours.
"""


@pytest.fixture(scope="module")
def north(up: Any) -> str:
    """The secret of a key of business unit `north`, which holds two documents, indexed."""
    _, secret = up.key("north")
    files = [("file", ("keys.md", KEYS_MD.encode())), ("file", ("conges.md", CONGES_MD.encode()))]
    with up.client(secret) as client:
        sent = client.post("/v1/documents", files=files)
        assert sent.status_code == 202, sent.text
        for document in sent.json()["documents"]:
            wait_indexed(client, document["id"])
    return str(secret)


def wait_indexed(client: httpx2.Client, document_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        document: dict[str, Any] = client.get(f"/v1/documents/{document_id}").json()
        if document["state"] in {"indexed", "failed"}:
            assert document["state"] == "indexed", document
            return document
        assert time.monotonic() < deadline, document
        time.sleep(0.05)


def wait_ready(url: str, within_s: float = 30) -> float:
    began = time.monotonic()
    while True:
        try:
            if httpx2.get(f"{url}/readyz", timeout=5).status_code == 200:
                return time.monotonic() - began
        except httpx2.HTTPError:
            pass
        assert time.monotonic() - began < within_s
        time.sleep(0.05)


def test_ready_says_so_with_every_part(up: Any) -> None:
    ready = httpx2.get(f"{up.url}/readyz").json()
    assert {part: told["status"] for part, told in ready["parts"].items()} == {"postgres": "ok", "redis": "ok", "model": "ok"}


@pytest.mark.parametrize(
    ("question", "document", "words"),
    [
        ("How do I rotate a key?", "keys.md", "revoke the old one"),
        ("Combien de jours avant le départ faut-il poser ses congés ?", "conges.md", "quinze jours"),
    ],
)
def test_a_question_is_answered_from_the_right_document(up: Any, north: str, question: str, document: str, words: str) -> None:
    with up.client(north) as client:
        response = client.post("/v1/ask", json={"question": question})
    answer = response.json()
    assert answer["found"], answer
    assert words in answer["answer"]
    cited = answer["citations"][0]
    assert cited["document"] == document
    text = {"keys.md": KEYS_MD, "conges.md": CONGES_MD}[document]
    assert cited["quote"] in text
    assert response.headers["x-rag-cost-eur"] == answer["cost_eur"]
    assert Decimal(answer["elsewhere_eur"]["prod"]) > Decimal(answer["cost_eur"])


def test_a_stream_ends_with_the_whole_answer(up: Any, north: str) -> None:
    told: list[tuple[str, Any]] = []
    body = {"question": "How are keys stored?", "stream": True}
    with up.client(north) as client, client.stream("POST", "/v1/ask", json=body) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("event: "):
                told.append((line.removeprefix("event: "), None))
            elif line.startswith("data: "):
                told[-1] = (told[-1][0], json.loads(line.removeprefix("data: ")))
    names = [name for name, _ in told]
    assert (names[0], names[-1], set(names[1:-1])) == ("passages", "done", {"token"})
    assert "SHA-256" in told[-1][1]["answer"]


def test_business_units_see_nothing_of_each_other(up: Any, north: str) -> None:
    _, south = up.key("south")
    with up.client(north) as client:
        ids = [document["id"] for document in client.get("/v1/documents").json()["documents"]]
    assert len(ids) >= 2
    with up.client(south) as client:
        assert client.get("/v1/documents").json()["documents"] == []
        for document_id in ids:
            assert client.get(f"/v1/documents/{document_id}").status_code == 404
            assert client.delete(f"/v1/documents/{document_id}").status_code == 404
        asked = client.post("/v1/ask", json={"question": "How do I rotate a key?"})
        assert asked.status_code == 404
        assert "keys.md" not in asked.text


def test_a_revoked_key_stops_at_once(up: Any) -> None:
    key_id, secret = up.key("north")
    with up.client(secret) as client:
        assert client.get("/v1/documents").status_code == 200
        up.cli("keys", "revoke", key_id)
        refused = client.get("/v1/documents")
    assert refused.status_code == 401
    assert "revoked" in refused.json()["detail"]


def test_changed_content_replaces_and_deleted_content_is_not_found(up: Any) -> None:
    _, secret = up.key("east")
    question = {"question": "What is the password of the lighthouse?"}
    with up.client(secret) as client:
        name = "lighthouse.md"

        def send(text: str) -> dict[str, Any]:
            document: dict[str, Any] = client.post("/v1/documents", files={"file": (name, text.encode())}).json()["documents"][
                0
            ]
            return document

        first = send("# Lighthouse\n\nThe password of the lighthouse is albatross.\n")
        wait_indexed(client, first["id"])
        assert "albatross" in client.post("/v1/ask", json=question).json()["answer"]
        assert send("# Lighthouse\n\nThe password of the lighthouse is albatross.\n")["changed"] is False
        second = send("# Lighthouse\n\nThe password of the lighthouse is cormorant.\n")
        assert second["id"] == first["id"]
        deadline = time.monotonic() + 30
        while "cormorant" not in (answer := client.post("/v1/ask", json=question).json()["answer"]):
            assert "albatross" in answer, "the old content stays until the new one is there"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.delete(f"/v1/documents/{first['id']}").status_code == 204
        assert client.post("/v1/ask", json=question).status_code == 404
        assert client.get(f"/v1/documents/{first['id']}").status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [("nothing.pdf", b"", "empty"), ("broken.pdf", b"%PDF-1.7\nnot a pdf", ""), ("noise.bin", os.urandom(2000), "")],
)
def test_a_file_that_cannot_be_read_fails_with_its_reason(up: Any, north: str, name: str, content: bytes, word: str) -> None:
    with up.client(north) as client:
        sent = client.post("/v1/documents", files={"file": (name, content)})
        if sent.status_code != 202:
            assert 400 <= sent.status_code < 500
            assert word in sent.json()["detail"]
            return
        document_id = sent.json()["documents"][0]["id"]
        deadline = time.monotonic() + 30
        while (document := client.get(f"/v1/documents/{document_id}").json())["state"] not in {"failed", "indexed"}:
            assert time.monotonic() < deadline, document
            time.sleep(0.05)
        assert document["state"] == "failed"
        assert document["error"]
        assert client.delete(f"/v1/documents/{document_id}").status_code == 204


def test_a_file_of_200_mb_is_refused_while_it_comes(up: Any, north: str) -> None:
    sent = 0

    def pieces() -> Any:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
        for _ in range(200):
            sent += 1
            yield b"x" * (1 << 20)

    with up.client(north) as client:
        try:
            refused = client.post(
                "/v1/documents", content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"}
            )
        except httpx2.HTTPError:  # refused so early that the client was still sending
            assert sent < 200
        else:
            assert refused.status_code == 413
            assert "104,857,600" in refused.json()["detail"]
        assert httpx2.get(f"{up.url}/healthz").status_code == 200
    assert not list((up.data / "spool").iterdir())


def test_five_hundred_at_once_are_all_served(up: Any, north: str) -> None:
    async def storm() -> list[int]:
        limits = httpx2.Limits(max_connections=500, max_keepalive_connections=0)
        headers = {"authorization": f"Bearer {north}"}
        async with httpx2.AsyncClient(base_url=up.url, headers=headers, timeout=60, limits=limits) as client:
            body = {"question": "How do I rotate a key?"}
            answers = await asyncio.gather(*(client.post("/v1/ask", json=body) for _ in range(500)))
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(storm())
    assert set(statuses) == {200}
    metrics = httpx2.get(f"{up.url}/metrics").text
    assert 'rag_requests_total{kind="ask",outcome="failed"} 0.0' in metrics
    assert wait_ready(up.url) < 5


def test_a_killed_api_comes_back_with_everything(up: Any, north: str) -> None:
    (pid,) = up.pids("pilotis.api")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while up.pids("pilotis.api") in ([], [pid]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    wait_ready(up.url)
    with up.client(north) as client:
        assert client.post("/v1/ask", json={"question": "How do I rotate a key?"}).json()["found"]


def test_the_api_is_small(up: Any) -> None:
    (pid,) = up.pids("pilotis.api")
    status = Path(f"/proc/{pid}/status").read_text()
    resident_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
    assert resident_mb < 350


def test_a_killed_service_leaves_nothing_running_and_starts_again_with_everything(tmp_path: Path, start_up: Any) -> None:
    first = start_up(tmp_path / "data")
    _, secret = first.key("north")
    with first.client(secret) as client:
        sent = client.post("/v1/documents", files={"file": ("keys.md", KEYS_MD.encode())}).json()["documents"][0]
    first.process.kill()
    assert first.ended() == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while first.pids(""):
        assert time.monotonic() < deadline, first.pids("")
        time.sleep(0.1)
    second = start_up(tmp_path / "data")
    with second.client(secret) as client:
        wait_indexed(client, sent["id"])
        assert "revoke" in client.post("/v1/ask", json={"question": "How do I rotate a key?"}).json()["answer"]
    assert second.stop() == 0
    assert not second.pids("")
