"""What is committed under examples/rendered is what the examples render to, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotis.adapters import rendered
from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render.drift import compare
from pilotis.render.render import render

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("name", ["minimal", "everything"])
def test_an_example_is_committed_as_it_is_rendered(name: str) -> None:
    files = render(derive(load.load(EXAMPLES / f"{name}.toml")))
    digests = {path: rendered.digest(file.data) for path, file in files.items()}
    drifts = compare(digests, rendered.look(EXAMPLES / "rendered" / name, digests))
    assert drifts == (), f"make examples renders them again: {drifts[:5]}"
    folder = EXAMPLES / "rendered" / name
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - {rendered.MANIFEST} == set(files)
