"""The server around the API: HTTP/1.1 and HTTP/2, TLS, compression, the end of a process, several of them behind HAProxy."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

KEYS_MD = b"# Keys\n\nCreate the new key first, move the callers to it, then revoke the old one. A revoked key stops at once.\n"
QUESTION = {"question": "How do I rotate a key?"}
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/sbin")


def ingest(client: httpx2.Client) -> None:
    sent = client.post("/v1/documents", files={"file": ("keys.md", KEYS_MD)})
    assert sent.status_code == 202, sent.text
    deadline = time.monotonic() + 40
    while client.get(f"/v1/documents/{sent.json()['documents'][0]['id']}").json()["state"] != "indexed":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until(holds: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def asker(paid: Any) -> str:
    _, secret = paid.key("west")
    with paid.client(secret) as client:
        ingest(client)
    return str(secret)


@pytest.mark.parametrize("encoding", ["br", "gzip", "zstd"])
def test_what_is_long_is_compressed_and_a_stream_never_is(paid: Any, asker: str, encoding: str) -> None:
    accept = {"accept-encoding": encoding}
    plain = httpx2.get(f"{paid.url}/openapi.json", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with paid.client(asker) as client, client.stream("GET", "/openapi.json", headers=accept) as packed:
        assert packed.headers["content-encoding"] == encoding
        assert "accept-encoding" in packed.headers["vary"].lower()
        assert len(b"".join(packed.iter_raw())) < len(plain.content) / 3
    small = httpx2.get(f"{paid.url}/healthz", headers=accept)
    assert "content-encoding" not in small.headers
    with paid.client(asker) as client:
        streamed = client.post("/v1/ask", json=QUESTION | {"stream": True}, headers=accept)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in streamed.headers
    assert "event: done" in streamed.text


def test_http2_is_spoken_without_tls_too(paid: Any) -> None:
    host, port = paid.url.removeprefix("http://").split(":")
    # :method GET, :scheme http, then :path and :authority as literals; see RFC 7541, appendix A.
    block = b"\x82\x86\x44\x08/healthz\x41" + bytes([len(host)]) + host.encode()
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + _frame(1, 0x5, 1, block))
        said = b""
        while (answer := _frames(said).get((1, 1))) is None:
            piece = line.recv(65_536)
            assert piece, said
            said += piece
    assert answer[0] == 0x88, "status 200, by the static table"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _frames(said: bytes) -> dict[tuple[int, int], bytes]:
    found = {}
    while len(said) >= 9 and len(said) >= 9 + (size := int.from_bytes(said[:3], "big")):
        found[said[3], int.from_bytes(said[5:9], "big")] = said[9 : 9 + size]
        said = said[9 + size :]
    return found


def test_a_process_that_is_told_to_end_finishes_its_streams_and_takes_no_more(paid: Any, asker: str) -> None:
    (pid,) = paid.pids("pilotis.api")
    told: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        body = {"question": "Which key is created first, at the end?", "stream": True}
        with paid.client(asker) as client, client.stream("POST", "/v1/ask", json=body) as stream:
            for line in stream.iter_lines():
                told.append(line)
                if line == "event: token":
                    begun.set()

    listener = threading.Thread(target=listen)
    with paid.client(asker) as client:
        assert client.get("/readyz").status_code == 200
        listener.start()
        assert begun.wait(20)
        os.kill(pid, signal.SIGTERM)
        until(lambda: client.get("/readyz").status_code == 503, 2)
        assert client.get("/readyz").json()["detail"] == "the process is about to end"
        assert client.get("/healthz").status_code == 200
        refused = client.post("/v1/search", json=QUESTION)
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert refused.headers["connection"] == "close"
        assert refused.headers["retry-after"] == "1"
    listener.join(20)
    assert "event: done" in told
    until(lambda: paid.pids("pilotis.api") not in ([], [pid]))
    assert "the API ended (exit code 0)" in (paid.data.parent / "up.err").read_text()
    until(lambda: is_ready(paid.url))


def test_one_that_is_told_twice_cuts_its_streams_off_and_books_them(paid: Any, asker: str) -> None:
    (pid,) = paid.pids("pilotis.api")
    with paid.client(asker) as client:
        ended = ""
        try:
            body = {"question": "Which key is created first, when in a hurry?", "stream": True}
            with client.stream("POST", "/v1/ask", json=body) as stream:
                for line in stream.iter_lines():
                    ended = line
                    if line == "event: token":
                        os.kill(pid, signal.SIGTERM)
                        os.kill(pid, signal.SIGTERM)
        except httpx2.HTTPError:
            pass
        assert ended != "event: done"
    until(lambda: paid.pids("pilotis.api") not in ([], [pid]))
    until(lambda: is_ready(paid.url))
    until(lambda: paid.metric("rag_outbox_events") == 0)
    lines = paid.cli("cost", "report", "--by", "bu,kind", "--bu", "west")["rows"]
    assert next(line for line in lines if line["kind"] == "answer")["cost_eur"] > "0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that says it is 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def check_tls(url: str, cert: Path) -> None:
    context = ssl.create_default_context(cafile=str(cert))
    assert httpx2.get(f"{url}/healthz", verify=context).status_code == 200
    host, port = url.removeprefix("https://").split(":")
    for version in ("h2", "http/1.1"):
        context.set_alpn_protocols([version])
        line = socket.create_connection((host, int(port)), timeout=10)
        with context.wrap_socket(line, server_hostname=host) as secured:
            assert secured.selected_alpn_protocol() == version
            assert secured.version() in {"TLSv1.2", "TLSv1.3"}


TOY = """
import asyncio, sys
from pathlib import Path
from pilotis.api.gate import Gate
from pilotis.api.serve import Tls, serve

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

tls = Tls(cert=Path(sys.argv[2]), key=Path(sys.argv[3]))
asyncio.run(serve(app, Gate(10), host="127.0.0.1", port=int(sys.argv[1]), drain_s=1, tls=tls))
"""


def test_one_process_speaks_tls_itself(certificate: tuple[Path, Path]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", TOY, str(port), *map(str, certificate)]) as process:
        until(lambda: listens(port))
        check_tls(f"https://127.0.0.1:{port}", certificate[0])
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, start_up: Any, certificate: tuple[Path, Path]) -> Any:
    """Two processes behind HAProxy, which speaks TLS; one address may search five times."""
    if HAPROXY is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    contract = '[envs.dev]\nllm = "extractive"\n[envs.dev.rates]\nip = { per_s = 0.1, burst = 5 }\n'
    cert, key = map(str, certificate)
    data = tmp_path_factory.mktemp("several") / "data"
    return start_up(data, "--processes", "2", "--tls-cert", cert, "--tls-key", key, ports=3, contract=contract)


@pytest.fixture(scope="module")
def northerner(several: Any, certificate: tuple[Path, Path]) -> Iterator[httpx2.Client]:
    _, secret = several.key("north")
    with several.client(secret, verify=ssl.create_default_context(cafile=str(certificate[0]))) as client:
        ingest(client)
        yield client


def test_the_proxy_speaks_tls_for_all(several: Any, certificate: tuple[Path, Path]) -> None:
    check_tls(several.url, certificate[0])


def test_each_process_has_metrics_of_its_own_and_the_proxy_has_none(several: Any, northerner: httpx2.Client) -> None:
    first, second = several.told["processes"]
    assert first["url"] != second["url"] != several.url
    for process in (first, second):
        assert "rag_requests_total" in httpx2.get(process["metrics"]).text
    front = northerner.get("/metrics")
    assert (front.status_code, front.headers["content-type"]) == (404, "application/problem+json")


def test_behind_the_proxy_a_forged_address_is_still_one_client(northerner: httpx2.Client) -> None:
    answers = [
        northerner.post("/v1/search", json=QUESTION | {"top_k": n + 1}, headers={"x-forwarded-for": f"10.9.8.{n}"})
        for n in range(12)
    ]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    limited = [answer for answer in answers if answer.status_code == 429]
    assert len(limited) >= 6
    problem = limited[0].json()
    assert (problem["code"], problem["scope"]) == ("rate_limited", "ip")
    assert int(limited[0].headers["retry-after"]) >= 1


def test_of_several_processes_one_may_be_killed(several: Any, northerner: httpx2.Client, certificate: Any) -> None:
    first, _ = several.told["processes"]
    headers = {"authorization": northerner.headers["authorization"]}
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    answered, lost = asyncio.run(_storm(several.url, headers, trusted, workers=8, seconds=3.0, kill=first["pid"]))
    assert answered.keys() <= {200, 502}, answered
    assert lost + answered[502] <= 8, "more broke than were on their way"
    until(lambda: len(several.pids("pilotis.api")) == 2 and first["pid"] not in several.pids("pilotis.api"))
    until(lambda: is_ready(first["url"]))


def test_whatever_ends_it_the_proxy_ends_too(several: Any) -> None:
    assert several.told["proxy"]["pid"] in several.pids("")
    several.process.kill()
    assert several.ended() == -signal.SIGKILL
    until(lambda: several.pids("") == [])


async def _storm(
    url: str, headers: dict[str, str], trusted: ssl.SSLContext, *, workers: int, seconds: float, kill: int
) -> tuple[Counter[int], int]:
    """Ask without pause; kill that process half way. What was answered, by status, and how many got no answer."""
    answered: Counter[int] = Counter()
    lost = 0
    began = time.monotonic()
    async with httpx2.AsyncClient(base_url=url, headers=headers, verify=trusted, timeout=30) as client:

        async def ask() -> None:
            nonlocal lost
            while time.monotonic() - began < seconds:
                try:
                    answered[(await client.get("/v1/documents")).status_code] += 1
                except httpx2.TransportError:
                    lost += 1

        async def strike() -> None:
            await asyncio.sleep(seconds / 2)
            os.kill(kill, signal.SIGKILL)

        await asyncio.gather(strike(), *(ask() for _ in range(workers)))
    return answered, lost
