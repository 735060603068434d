"""How soon `pilotis up` is ready, on an empty and on an existing data folder, and how much memory its processes hold.

    python bench/process.py [--json]

Bars: ready in under 12 s on an empty folder and 5 s on an existing one; the API process with the local model under 350 MB resident.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from common import parser, report

QUESTIONS = 200


def main(*, as_json: bool) -> None:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="pilotis-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        for what in ("empty data folder", "existing data folder"):
            port = _free_port()
            began = time.perf_counter()
            command = [sys.executable, "-m", "pilotis", "--data", f"{folder}/env", "--json", "up", "--port", str(port)]
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True)
            try:
                _until_ready(port, process)
                rows.append({"what": f"ready, {what}", "seconds": time.perf_counter() - began})
                if what.startswith("existing"):
                    _ask(folder, port)
                    rows += [{"what": f"resident, {name}", "MB": size} for name, size in _resident(process.pid).items()]
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    report("Processes", rows, as_json=as_json)


def _until_ready(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"pilotis up ended with {process.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    sys.exit("not ready after 60 s")


def _ask(folder: str, port: int) -> None:
    """Memory counts after use, not at rest."""
    command = [sys.executable, "-m", "pilotis", "--data", f"{folder}/env", "--json", "keys", "create", "bench"]
    secret = json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)["secret"]
    for n in range(QUESTIONS):
        body = json.dumps({"question": f"question {n} about anything at all"}).encode()
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/ask", body, headers)
        try:
            urllib.request.urlopen(request, timeout=10).read()
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise


def _resident(root: int) -> dict[str, float]:
    """Megabytes by role, of the process tree below `root`."""
    found: dict[str, float] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            session = os.getsid(int(path.name))
            status = (path / "status").read_text()
        except (OSError, ProcessLookupError):
            continue
        role = _role(command)
        if role is None or (session != os.getsid(root) and not _descends(int(path.name), root)):
            continue
        size = next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)
        found[role] = max(found.get(role, 0.0), size)
    return found


def _role(command: str) -> str | None:
    for mark, role in (
        ("pilotis.api", "API"),
        ("pilotis.tasks ingest", "ingest worker"),
        ("pilotis.tasks embed", "embed worker"),
    ):
        if mark in command:
            return role
    return None


def _descends(pid: int, root: int) -> bool:
    while pid > 1:
        if pid == root:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(as_json=parser(__doc__).parse_args().json)
