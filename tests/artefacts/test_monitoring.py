"""Prometheus' and Alertmanager's own checkers over what is rendered; each alert fires and is silent as its tests say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render.files import scene, to_yaml
from pilotis.render.monitoring.alertmanager import alertmanager

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTRACTS = [None, EXAMPLES / "pilotis.toml", EXAMPLES / "minimal.toml"]
Rendered = Callable[[Path | None], Path]
Tool = Callable[[str], str]
RECEIVERS = """
[alerts.receivers.oncall]
kind = "pagerduty"
severities = ["page"]
[alerts.receivers.sales]
kind = "slack"
channel = "#sales"
bus = ["sales", 'R&D "a.b" (x)']
[alerts.receivers.mail]
kind = "email"
to = "a@example.com"
severities = ["ticket"]
[alerts.receivers.hook]
kind = "webhook"
url = "https://hooks.example.com/alerts"
severities = ["info"]
"""


def ran(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=CONTRACTS, ids=lambda path: path.name if path else "built-in")
def folders(request: pytest.FixtureRequest, rendered: Rendered) -> list[Path]:
    return sorted((rendered(request.param) / "monitoring").iterdir())


def test_configurations_and_rules_are_valid(folders: list[Path], tool: Tool) -> None:
    for folder in folders:
        ran(tool("promtool"), "check", "config", folder / "prometheus.yml")
        ran(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *sorted((folder / "rules").iterdir()))
        ran(tool("amtool"), "check-config", folder / "alertmanager.yml")


def test_alerts_fire_and_are_silent(rendered: Rendered, tool: Tool) -> None:
    """One env of each contract that has different ones: the week of one takes half a minute."""
    for contract, env in ((CONTRACTS[1], "prod"), (CONTRACTS[2], "dev")):
        ran(tool("promtool"), "test", "rules", *sorted((rendered(contract) / "monitoring" / env / "rules_test").iterdir()))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["severity=page"], "oncall"),
        (["severity=page", "bu=sales"], "oncall,sales"),
        (["severity=ticket"], "mail"),
        (["severity=ticket", "bu=sales"], "sales,mail"),
        (["severity=info", "bu=hr"], "hook"),
        (["severity=info", 'bu="R&D \\"a.b\\" (x)"'], "sales,hook"),
        (["severity=info", 'bu="R&D \\"aXb\\" (x)"'], "hook"),
        (["severity=none"], "nobody"),
    ],
)
def test_who_is_told(tmp_path: Path, tool: Tool, labels: list[str], told: str) -> None:
    contract = tmp_path / "pilotis.toml"
    contract.write_text((EXAMPLES / "minimal.toml").read_text() + RECEIVERS)
    on = scene(derive(load.load(contract)))
    config = tmp_path / "alertmanager.yml"
    config.write_text(to_yaml(alertmanager(on.sites["dev"])))
    ran(tool("amtool"), "check-config", config)
    ran(tool("amtool"), "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={told}", *labels)
