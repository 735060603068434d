from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A server that speaks S3, of its own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client with credentials, an empty bucket `docs`, and the environment that sources find their credentials in."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3", endpoint_url=s3_url)
    client.create_bucket(Bucket="docs")
    yield client
    for found in client.list_objects_v2(Bucket="docs").get("Contents", ()):
        client.delete_object(Bucket="docs", Key=found["Key"])
    client.delete_bucket(Bucket="docs")
    client.close()


@dataclass
class Page:
    """What the site answers to one path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A guest that leaves in the middle is no matter."""


class Site:
    """A web site on this machine. `asked` is every path in order, `told` the headers that came with it."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.refusals: dict[str, list[Page]] = {}
        self.asked: list[str] = []
        self.told: list[dict[str, str]] = []
        self.connections: set[tuple[str, int]] = set()
        self.at: list[float] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.at.append(time.monotonic())
                site.told.append({name.lower(): value for name, value in self.headers.items()})
                site.connections.add(self.client_address)
                page = site.page(self.path, site.told[-1])
                time.sleep(page.after_s)
                self.send_response(page.status)
                for name, value in {"content-type": "text/html", "content-length": str(len(page.body)), **page.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(page.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def refuse(self, path: str, *statuses: int, **headers: str) -> None:
        """What it answers before the page: one refusal after the other."""
        self.refusals[path] = [
            Page(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}) for status in statuses
        ]

    def page(self, path: str, told: dict[str, str]) -> Page:
        if self.refusals.get(path):
            return self.refusals[path].pop(0)
        page = self.pages.get(path, Page(status=404))
        etag, modified = page.headers.get("etag"), page.headers.get("last-modified")
        same = (etag and told.get("if-none-match") == etag) or (modified and told.get("if-modified-since") == modified)
        return replace(page, status=304, body=b"") if same and page.status == 200 else page

    def put(self, path: str, body: str | bytes = "", **fields: Any) -> str:
        """Its address."""
        self.pages[path] = Page(body=body.encode() if isinstance(body, str) else body, **fields)
        return f"{self.url}{path}"

    def robots(self, text: str) -> None:
        self.put("/robots.txt", text)

    def sitemap(self, *paths: str, at: str = "/sitemap.xml", index: bool = False) -> None:
        outer, inner = ("sitemapindex", "sitemap") if index else ("urlset", "url")
        listed = "".join(f"<{inner}><loc>{path if '://' in path else self.url + path}</loc></{inner}>" for path in paths)
        xml = f'<?xml version="1.0"?><{outer} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{listed}</{outer}>'
        self.put(at, xml)

    def with_tls(self, certificate: Path, key: Path) -> None:
        """From now on over TLS."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()
