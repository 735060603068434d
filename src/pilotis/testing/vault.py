"""A server that answers as Vault's KV engine, version 2, does: data and metadata of versions, deletion, policies by token, seal."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROOT, STRANGER = "hvs.root", "hvs.stranger"
"""Tokens: one that may read everything, one that may read nothing."""


@dataclass
class Version:
    """One value of a secret."""

    fields: dict[str, Any]
    at: datetime
    deleted: datetime | None = None


@dataclass
class Vault:
    """Starts with a mount `secret` of version 2 and an old one, `old`, of version 1."""

    kept: dict[str, list[Version]] = field(default_factory=dict)
    """By MOUNT/PATH."""
    is_sealed: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, path: str, fields: dict[str, Any], at: datetime | None = None) -> None:
        self.kept.setdefault(path, []).append(Version(fields, at or datetime.now(UTC)))

    def answer(self, path: str, token: str) -> tuple[int, dict[str, Any]]:
        """The status and the document for a GET."""
        self.asked.append(path)
        if self.is_sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if token != ROOT:
            return 403, {"errors": ["permission denied" if token == STRANGER else f"bad token {token}"]}
        mount, _, rest = path.removeprefix("/v1/").partition("/")
        if mount == "old":
            return 200, {"data": {"value": "of version 1, which has no metadata"}}
        if mount != "secret":
            return 404, {"errors": [f'no handler for route "{path}"']}
        versions = self.kept.get(f"{mount}/{rest.removeprefix('data/')}", []) if rest.startswith("data/") else []
        return _latest(versions) if versions else (404, {"errors": []})


def _latest(versions: list[Version]) -> tuple[int, dict[str, Any]]:
    last = versions[-1]
    metadata = {
        "created_time": f"{last.at:%Y-%m-%dT%H:%M:%S.%f}789Z",
        "custom_metadata": None,
        "deletion_time": f"{last.deleted:%Y-%m-%dT%H:%M:%S.%f}789Z" if last.deleted else "",
        "destroyed": False,
        "version": len(versions),
    }
    answer = {"request_id": "r", "lease_id": "", "renewable": False, "lease_duration": 0, "wrap_info": None, "warnings": None}
    data = {"data": None if last.deleted else last.fields, "metadata": metadata}
    return 404 if last.deleted else 200, answer | {"data": data}


def _handler(vault: Vault) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = vault.answer(self.path, self.headers.get("X-Vault-Token", ""))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' word
            """Tests read the answers."""

    return Handler
