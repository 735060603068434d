"""A model server in a process of its own, for all tests of this folder."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).parents[2] / "mock_openai.py"


@pytest.fixture(scope="session")
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def provider(free_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running `mock_openai.py`, without `/v1`."""
    log = (tmp_path_factory.mktemp("provider") / "log").open("w+")
    process = subprocess.Popen([sys.executable, SERVER, "--port", str(free_port)], stdout=log, stderr=log)
    try:
        for _ in range(200):
            assert process.poll() is None, Path(log.name).read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", free_port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.fail(f"the provider did not start: {Path(log.name).read_text()}")
        yield f"http://127.0.0.1:{free_port}"
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()
