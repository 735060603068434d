"""What the real checkers are given, and where they are. A checker that is missing skips its tests with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render.render import render

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-artefacts" / "bin"


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path | None], Path]:
    """The folder of all that a contract renders to, made once; None takes the built-in contract."""

    @cache
    def make(contract: Path | None) -> Path:
        folder = tmp_path_factory.mktemp("rendered")
        for path, file in render(derive(load.load(contract) if contract else load.default())).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
            target.chmod(0o755 if file.executable else 0o644)
        return folder

    return make


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a checker."""

    def find(name: str) -> str:
        found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
        if found is None:
            pytest.skip(f"{name} is not there: neither in {TOOLS.relative_to(ROOT)} nor on the PATH")
        return found

    return find


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of schemas and facts of others' formats, named by PILOTIS_TEST_SHARED."""
    named = os.environ.get("PILOTIS_TEST_SHARED")
    if not named or not Path(named).is_dir():
        pytest.skip("PILOTIS_TEST_SHARED names no folder with the schemas of custom resources")
    return Path(named)
