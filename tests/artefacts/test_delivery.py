"""The delivery workflow and its scripts, by the checkers of their kinds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = (None, ROOT / "examples" / "pilotis.toml", ROOT / "examples" / "minimal.toml")
CHECKS = {
    "check-jsonschema": ("--builtin-schema", "vendor.github-workflows"),
    "zizmor": ("--offline", "--no-progress", "--persona", "pedantic"),
    "yamllint": ("--strict", "-d", "{extends: default, rules: {line-length: {max: 200}, truthy: {check-keys: false}}}"),
}


@pytest.mark.parametrize("contract", CONTRACTS, ids=("built-in", "full", "minimal"))
@pytest.mark.parametrize("checker", CHECKS)
def test_the_workflow_passes(
    checker: str, contract: Path | None, rendered: Callable[[Path | None], Path], tool: Callable[[str], str]
) -> None:
    file = rendered(contract) / "delivery" / "workflows" / "deploy.yml"
    ran = subprocess.run([tool(checker), *CHECKS[checker], str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_scripts_pass_shellcheck(rendered: Callable[[Path | None], Path], tool: Callable[[str], str]) -> None:
    scripts = sorted((rendered(None) / "delivery" / "scripts").glob("*.sh"))
    ran = subprocess.run([tool("shellcheck"), *map(str, scripts)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(("verdict", "code"), [(0, 0), (1, 1), (2, 2), (3, 3)])
def test_the_check_ends_as_the_verdict_says(
    verdict: int, code: int, rendered: Callable[[Path | None], Path], tmp_path: Path
) -> None:
    """3 is waited for, here for no time at all."""
    stand_in = tmp_path / "pilotis"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexit {verdict}\n')
    stand_in.chmod(0o755)
    env = os.environ | {"RELEASE": "r1", "PILOTIS": str(stand_in), "WAIT_S": "0", "EVERY_S": "0"}
    ran = subprocess.run(["bash", rendered(None) / "delivery/scripts/canary_check.sh"], env=env, check=False)
    assert ran.returncode == code
    assert (tmp_path / "calls").read_text() == "release check r1 --json\n"
