"""What the real HAProxy lets through, and what it tells the process behind it, by the configuration that it is given."""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from pilotis.embedded import haproxy
from pilotis.embedded.haproxy import ELSEWHERE, Front

pytestmark = pytest.mark.skipif(
    not (shutil.which("haproxy") or shutil.which("haproxy", path=ELSEWHERE)),
    reason="haproxy is not installed: apt-get install haproxy",
)

left = threading.Event()


class Process(socketserver.BaseRequestHandler):
    """Answers what it was asked for; /slow never, but notices who leaves."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            while head := self.request.recv(65_536):
                if head.split()[1] != b"/slow":
                    self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nbehind")
                    continue
                with suppress(ConnectionError):
                    self.request.recv(1)
                left.set()
                return


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], socket.socket]]:
    """A connection to the front."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Process) as behind, socket.create_server(("127.0.0.1", 0)) as port:
        behind.daemon_threads = True
        threading.Thread(target=behind.serve_forever, daemon=True).start()
        front = Front(port=port.getsockname()[1], ports=(behind.server_address[1],), total_s=20, drain_s=1)
        with haproxy.prepared(front, tmp_path_factory.mktemp("front"), listening=port.fileno()) as program:
            process = subprocess.Popen(program.command, pass_fds=(port.fileno(),))
            try:
                yield lambda: socket.create_connection(port.getsockname(), timeout=10)
            finally:
                process.terminate()
                process.wait(10)
        behind.shutdown()


def ask(line: socket.socket, path: bytes) -> bytes:
    line.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    return line.recv(65_536)


@pytest.mark.parametrize("path", [b"/metrics", b"/%6detrics", b"/m%65trics?x", b"http://x/metric%73", b"/%6Detrics"])
def test_the_metrics_of_a_process_are_told_to_nobody(connect: Callable[[], socket.socket], path: bytes) -> None:
    with closing(connect()) as line:
        assert ask(line, path).startswith(b"HTTP/1.1 404 ")


def test_what_stands_beside_them_is_passed_on(connect: Callable[[], socket.socket]) -> None:
    with closing(connect()) as line:
        assert ask(line, b"/metrics2").endswith(b"behind")


def test_a_client_that_leaves_before_the_answer_begins_is_gone_behind_it_too(connect: Callable[[], socket.socket]) -> None:
    with closing(connect()) as line:
        line.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        assert not left.is_set()
    assert left.wait(5)
