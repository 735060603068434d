"""How many proxies stand before a process is known where it is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotis import wiring
from pilotis.errors import SetupError


@pytest.mark.parametrize(("told", "hops"), [("", 0), ("0", 0), (" 2 ", 2)])
def test_the_environment_comes_before_the_contract(tmp_path: Path, told: str, hops: int) -> None:
    given = wiring.settings(environ={"PILOTIS_TRUSTED_HOPS": told}, folder=tmp_path)
    plan, env = wiring.load_plan(given)
    assert env.trusted_hops == hops
    assert plan.env(env.name).trusted_hops == 0


@pytest.mark.parametrize("told", ["-1", "11", "all", "1.5"])
def test_what_is_no_number_of_proxies_is_refused(tmp_path: Path, told: str) -> None:
    given = wiring.settings(environ={"PILOTIS_TRUSTED_HOPS": told}, folder=tmp_path)
    with pytest.raises(SetupError, match="PILOTIS_TRUSTED_HOPS"):
        wiring.load_plan(given)
