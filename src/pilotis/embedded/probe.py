"""Ask a server over its socket whether it answers, in its own protocol and without its client library."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POSTGRES_SOCKET = ".s.PGSQL.5432"
REDIS_SOCKET = "redis.sock"
TOO_MANY_CLIENTS = b"C53300"


def postgres(sockets: Path, *, timeout_s: float = 2.0) -> str:
    """Log in, run `SELECT 1`, return the server's version. Raises OSError where it does not answer as it should.

    Protocol 3.0: https://www.postgresql.org/docs/18/protocol-flow.html
    """
    version = "?"
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        line.connect(str(sockets / POSTGRES_SOCKET))
        options = b"user\0pilotis\0database\0pilotis\0application_name\0pilotis probe\0\0"
        line.sendall(struct.pack("!ii", len(options) + 8, 196608) + options)
        asked = answered = False
        for kind, body in _messages(line):
            if kind == b"E":
                if TOO_MANY_CLIENTS in body:
                    return version
                raise ConnectionError(_text_of(body))
            if kind == b"R" and body[:4] != b"\0\0\0\0":
                raise ConnectionError("the server asks for a password")
            if kind == b"S" and body.startswith(b"server_version\0"):
                version = body.split(b"\0")[1].decode()
            if kind == b"D":
                answered = body.endswith(b"1")
            if kind == b"Z" and asked:
                break
            if kind == b"Z":
                line.sendall(b"Q" + struct.pack("!i", 13) + b"SELECT 1\0")
                asked = True
        line.sendall(b"X\0\0\0\4")
    if not answered:
        raise ConnectionError("the server did not answer SELECT 1")
    return version


def redis(sockets: Path, *, timeout_s: float = 2.0) -> str:
    """PING, then the server's version from INFO. Raises OSError where it does not answer as it should (it also loads first)."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        line.connect(str(sockets / REDIS_SOCKET))
        reply = line.makefile("rb")
        line.sendall(b"PING\r\n")
        if (pong := reply.readline()) != b"+PONG\r\n":
            raise ConnectionError(pong.decode(errors="replace").strip() or "the server hung up")
        line.sendall(b"INFO server\r\n")
        size = reply.readline()
        if not size.startswith(b"$"):
            raise ConnectionError(size.decode(errors="replace").strip())
        info = reply.read(int(size[1:])).decode()
    return next((row.partition(":")[2].strip() for row in info.splitlines() if row.startswith("redis_version:")), "?")


def _messages(line: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    while True:
        head = _exactly(line, 5)
        yield head[:1], _exactly(line, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = line.recv(size - len(got))
        if not piece:
            raise ConnectionError("the server hung up")
        got += piece
    return got


def _text_of(error: bytes) -> str:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in error.split(b"\0") if field}
    return fields.get(b"M", "the server refused")
