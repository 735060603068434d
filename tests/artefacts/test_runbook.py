"""The runbook's queries and the diagrams, by the programs that read them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = [None, ROOT / "examples/pilotis.toml", ROOT / "examples/minimal.toml"]
FENCE = re.compile(r"^ *```promql\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

each_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda path: path.name if path else "built-in")


@each_contract
def test_prometheus_understands_every_query(
    contract: Path | None, rendered: Callable[[Path | None], Path], tool: Callable[[str], str], tmp_path: Path
) -> None:
    pages = sorted((rendered(contract) / "runbook").rglob("*.md"))
    queries = sorted({query.strip() for page in pages for query in FENCE.findall(page.read_text(encoding="utf-8"))})
    assert len(queries) > 10
    rules = [{"record": f"runbook:query{n}", "expr": query} for n, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "runbook", "rules": rules}]}), encoding="utf-8")
    told = subprocess.run(
        [tool("promtool"), "check", "rules", "--lint=none", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


@each_contract
def test_a_shell_understands_every_command(
    contract: Path | None, rendered: Callable[[Path | None], Path], tool: Callable[[str], str]
) -> None:
    for page in sorted((rendered(contract) / "runbook").rglob("*.md")):
        for block in re.findall(r"^ *```sh\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            told = subprocess.run([tool("bash"), "-n"], input=block, capture_output=True, text=True, check=False)
            assert told.returncode == 0, (page.name, block, told.stderr)


@each_contract
def test_a_browser_draws_every_diagram(
    contract: Path | None, rendered: Callable[[Path | None], Path], tool: Callable[[str], str], tmp_path: Path
) -> None:
    """One page with all of them: an image that cannot be read is drawn empty, and has no width."""
    images = sorted((rendered(contract) / "diagrams").rglob("*.svg"))
    assert images
    tags = "".join(f'<img src="{path.as_uri()}">' for path in images)
    script = "onload=()=>{document.title=[...document.images].filter(one=>one.naturalWidth>300).length}"
    (tmp_path / "page.html").write_text(f"<html><body>{tags}<script>{script}</script></body></html>", encoding="utf-8")
    told = subprocess.run(
        [
            *(tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--allow-file-access-from-files", "--virtual-time-budget=10000", "--dump-dom", (tmp_path / "page.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert f"<title>{len(images)}</title>" in told.stdout, told.stderr[-2000:]
