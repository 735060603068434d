"""The command line as a user runs it, over a real data folder: exit codes, messages, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pilotis.cli.children import Child, Children
from pilotis.cli.up import wait_ready


def run(*args: str, cwd: Path, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTIS_", "XDG_"))}
    home = {"HOME": str(cwd), "XDG_CACHE_HOME": str(Path.home() / ".cache")}
    command = [sys.executable, "-m", "pilotis", *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=kept | home | environ, timeout=150, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def running_with(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command and folder.name != str(os.getpid()):
            found.append(command)
    return found


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = json.loads(run("keys", "create", "ci", "--bu", "sales", "--json", cwd=tmp_path).stdout)
    assert made["bu"] == "sales"
    assert made["secret"].startswith(made["prefix"])
    listed = run("keys", "list", "--bu", "sales", cwd=tmp_path).stdout
    assert made["id"] in listed
    assert made["secret"] not in listed
    assert json.loads(run("keys", "list", "--json", cwd=tmp_path).stdout) == []
    run("keys", "revoke", made["id"], cwd=tmp_path)
    assert json.loads(run("keys", "list", "--bu", "sales", "--json", cwd=tmp_path).stdout)[0]["revoked_at"]
    refused = run("keys", "revoke", "nobody", cwd=tmp_path, code=1)
    assert "nobody" in refused.stderr
    assert "→" in refused.stderr
    check = json.loads(run("migrate", "--check", "--json", cwd=tmp_path).stdout)
    assert check["pending"] == []
    nothing = run("ask", "Is there anything?", cwd=tmp_path, code=1)
    assert "pilotis ingest" in nothing.stderr
    assert not running_with(str(tmp_path))


def test_two_contracts_and_a_typo_are_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text("[envs.dev]\ntopk = 3\n")
    typo = run("ask", "q", cwd=tmp_path, code=2)
    assert "topk" in typo.stderr
    assert "top_k" in typo.stderr
    (tmp_path / "pilotis.json").write_text("{}")
    both = run("ask", "q", cwd=tmp_path, code=2)
    assert "pilotis.toml" in both.stderr
    assert "pilotis.json" in both.stderr


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = run("up", "--port", port, cwd=tmp_path, code=2)
    assert f"port {port}" in refused.stderr
    assert f"(pid {os.getpid()})" in refused.stderr
    assert "--port" in refused.stderr
    assert not list(tmp_path.glob(".local/**/postgres"))


def test_a_folder_without_permission_is_said_plainly(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    refused = run("keys", "list", "--data", str(blocked / "data"), cwd=tmp_path, code=2)
    assert "file" in refused.stderr
    assert "--data" in refused.stderr


def test_the_doctor_tells_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text('[envs.dev]\nllm = "gpt-5-mini"\n')
    told = json.loads(run("doctor", "--json", cwd=tmp_path, code=1).stdout)["checks"]
    checks: dict[str, Any] = {check["name"]: check for check in told}
    assert checks["model key"]["state"] == "error"
    assert "OPENAI_API_KEY" in checks["model key"]["remedy"]
    assert checks["model"]["state"] == "ok"
    assert checks["python"]["state"] == "ok"
    assert all(check["remedy"] for check in told if check["state"] == "error")
    run("doctor", cwd=tmp_path / ".", code=1)


def test_the_doctor_holds_the_age_of_secrets_against_the_contract(tmp_path: Path) -> None:
    (tmp_path / "pilotis.toml").write_text(
        '[envs.dev]\nllm = "gpt-5-mini"\n[envs.dev.secrets]\nprovider = "file"\npath = "kept"\nmax_age_days = 30\n'
    )
    (tmp_path / "kept").mkdir()
    told = {"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/x", "REDIS_URL": "redis://:hunter2@127.0.0.1:1"}
    for name, value in {**{f"PILOTIS_{of}": url for of, url in told.items()}, "OPENAI_API_KEY": "sk-hunter2"}.items():
        (tmp_path / "kept" / name).write_text(value)
    old = time.time() - 31 * 86_400
    os.utime(tmp_path / "kept" / "OPENAI_API_KEY", (old, old))
    done = run("doctor", "--json", cwd=tmp_path, code=1)
    ages = {each["name"]: each["age_days"] for each in json.loads(done.stdout)["secrets"]}
    assert {name: round(age) for name, age in ages.items()} == {
        "PILOTIS_DATABASE_URL": 0,
        "PILOTIS_REDIS_URL": 0,
        "OPENAI_API_KEY": 31,
    }
    late = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "secret" and check["state"] == "error"]
    assert [check["found"].rpartition("/kept/")[2] for check in late] == ["OPENAI_API_KEY: 31 days old, of 30 at most"]
    assert "hunter2" not in done.stdout + done.stderr


def test_what_was_left_out_of_a_file_is_said(tmp_path: Path) -> None:
    page = '<html xmlns:x="y"><body><p>Bridges close on Monday.</p></body></html>'
    (tmp_path / "old.html").write_bytes(page.replace("Bridges", "L\u2019\u00e9t\u00e9 bridges").encode("cp1252"))
    (tmp_path / "new.md").write_text("Ferries run at night.")
    summary = json.loads(run("ingest", "old.html", "new.md", "--data", "data", "--json", cwd=tmp_path).stdout)
    assert summary["indexed"] == 2
    assert summary["warnings"] == [{"name": "old.html", "warnings": ["not UTF-8: read as Windows-1252"]}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_starting_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "pilotis", "up", "--data", str(tmp_path / "data"), "--port", port]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "data" / "run").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    # CPython sends itself SIGINT at its end where an interrupt came inside exec, as dataclasses use it, whoever caught it: a shell says 130.
    assert process.returncode in {0, 130, -signal.SIGINT}
    assert "Traceback" not in errors
    deadline = time.monotonic() + 20
    while running_with(str(tmp_path / "data")):
        assert time.monotonic() < deadline, running_with(str(tmp_path))
        time.sleep(0.1)


def test_the_demo_answers_three_questions_with_sources_and_costs_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("demo", "--once", cwd=tmp_path)
    shown = done.stdout
    assert shown.count("\n? ") == 3
    assert shown.count("Sources") == 3, shown
    assert shown.count("Cost: here 0.000000 €; staging ") == 3
    assert "Not found" not in shown
    assert "Pas trouvé" not in shown
    assert not running_with(str(tmp_path))


KILLED_ONCE = """
import http.server, json, os, pathlib, sys
seen = pathlib.Path(sys.argv[2])
if not seen.exists():
    seen.touch()
    os.kill(os.getpid(), 9)
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def test_what_is_killed_while_it_gets_ready_is_started_again(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Children({}, tmp_path / "log") as children:
        child = children.run(Child("it", (sys.executable, "-c", KILLED_ONCE, str(port), str(tmp_path / "seen"))))
        wait_ready(children, child, f"http://127.0.0.1:{port}")
        assert len(child.deaths) == 1
        assert child.process
        assert child.process.poll() is None
