"""The command line's frame: options before or after the verb, one table from errors to exit codes, ports, children."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pilotis import __version__, cli
from pilotis.cli import output, port, session
from pilotis.cli.children import MAX_DEATHS, Children
from pilotis.errors import ContractError, NotFound, Permanent, SetupError, Transient


@pytest.mark.parametrize(
    ("given", "hoisted"),
    [
        (["ask", "q", "--json"], ["--json", "ask", "q"]),
        (["--env", "prod", "ask", "q"], ["--env", "prod", "ask", "q"]),
        (["ask", "--env=prod", "q", "--bu", "sales"], ["--env=prod", "--bu", "sales", "ask", "q"]),
        (["ask", "--", "--json"], ["ask", "--", "--json"]),
        (["keys", "create", "--data"], ["--data", "keys", "create"]),
        (["ask", "--top-k", "5"], ["ask", "--top-k", "5"]),
        ([], []),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], hoisted: list[str]) -> None:
    assert cli.hoisted(given) == hoisted


@pytest.mark.parametrize("args", [["version", "--json"], ["--json", "version"]])
def test_json_is_one_document_on_stdout(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(args) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContractError("the contract", remedy="mend it"), 2),
        (SetupError("the machine", remedy="mend it"), 2),
        (NotFound("the thing", remedy="mend it"), 1),
        (Transient("the server", remedy="mend it"), 1),
        (Permanent("the file", remedy="mend it"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 1),
    ],
)
def test_each_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr(session, "settings", fail)
    assert cli.run(["ask", "q"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    if isinstance(error, ContractError | SetupError | NotFound | Transient | Permanent):
        assert shown.err == f"{error.message}\n→ mend it\n"


def test_the_unexpected_is_one_line_and_debug_shows_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError("by [zero]")

    monkeypatch.setattr(session, "settings", fail)
    assert cli.run(["ask", "q"]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "unexpected ZeroDivisionError: by [zero]"
    assert "--debug" in err
    assert "Traceback" not in err
    assert cli.run(["ask", "q", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args", [["asc"], ["ask"], ["--nonsense"], ["ask", "q", "--top-k", "many"], ["keys", "create", "--data"]]
)
def test_wrong_usage_is_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(args) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    code = "import sys, pilotis.cli; print([m for m in ('fastapi', 'numpy', 'psycopg', 'celery', 'pydantic', 'openai') if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_a_port_in_use_names_its_holder_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(SetupError) as refused:
            port.require_free("127.0.0.1", number)
        assert f"port {number}" in refused.value.message
        if sys.platform == "linux":
            assert f"(pid {os.getpid()})" in refused.value.message
        assert f"--port {number + 1}" in refused.value.remedy
    port.require_free("127.0.0.1", number)


@pytest.mark.parametrize(
    ("host", "number", "word"),
    [("127.0.0.1", 99_999, "not a port"), ("127.0.0.1", 0, "not a port"), ("192.0.2.1", 54_321, "cannot listen")],
)
def test_an_impossible_address_is_said_so(host: str, number: int, word: str) -> None:
    with pytest.raises(SetupError, match=word):
        port.require_free(host, number)


def test_amounts_in_json_have_no_exponent(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"nothing": Decimal("0E-12"), "little": Decimal("1.5E-7")})
    assert json.loads(capsys.readouterr().out) == {"nothing": "0.000000000000", "little": "0.00000015"}


def test_a_table_cell_stays_on_its_line_and_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("failed", "why"), [("a\nb\x1b[2J.md", "[red]é")])
    assert capsys.readouterr().out.splitlines()[-1].split(" │ ") == ["a\\nb\\x1b[2J.md", "[red]é"]


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_children_are_restarted_and_end_together(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    with Children({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "log") as children:
        child = children.start("the sleeper", "sleeper")
        wait_for(lambda: "here" in children.log.read_text())
        first = child.process
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        children.watch()
        second = child.process
        assert second is not None
        assert second.pid != first.pid
        wait_for(lambda: children.log.read_text().count("here") == 2)
    assert second.poll() is not None


def test_a_child_that_keeps_dying_is_an_error_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no disk')\n")
    (tmp_path / "log").write_text("what an earlier run said\n")
    with Children({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "log") as children:
        child = children.start("the broken one", "broken")
        for death in range(1, MAX_DEATHS + 1):
            assert child.process is not None
            child.process.wait()
            assert "no disk" in (children.failed_to_start(child) or "")
            assert "earlier" not in (children.failed_to_start(child) or "")
            if death < MAX_DEATHS:
                children.watch()
        with pytest.raises(SetupError, match="the broken one ended"):
            children.watch()
