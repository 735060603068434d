"""The workflow that releases: its order, its permissions, and that nothing of others gets into a shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotis.contract.load import parse
from pilotis.contract.presets import default
from pilotis.derive.plan import derive
from pilotis.derive.workload import named, roles
from pilotis.render.delivery import LONGEST_JOB_MIN, files, workflow
from pilotis.render.files import scene


def rendered(text: str = "") -> dict[str, Any]:
    return workflow(scene(derive(parse(text, Path("pilotis.toml")) if text else default())))


def test_the_order_is_build_scan_staging_approvals_stages() -> None:
    jobs = rendered()["jobs"]
    names = "contract build scan staging propose approve_business approve_sre stage_5 stage_25 stage_100"
    assert list(jobs) == names.split()
    assert jobs["stage_5"]["needs"] == ["propose", "approve_business", "approve_sre"]
    assert jobs["stage_25"]["needs"] == ["propose", "stage_5"]
    assert jobs["stage_100"]["needs"] == ["propose", "stage_25"]
    assert jobs["propose"]["needs"] == ["build", "staging"]


def test_blue_green_switches_once() -> None:
    jobs = rendered('[deploy]\nstrategy = "blue_green"\nstages = [10, 100]')["jobs"]
    assert [name for name in jobs if name.startswith("stage_")] == ["stage_100"]
    assert jobs["stage_100"]["steps"][3]["run"].endswith("promote_canary.sh start")


def test_approvals_are_those_of_the_contract() -> None:
    jobs = rendered('[deploy]\napprovals = ["legal"]')["jobs"]
    assert [name for name in jobs if name.startswith("approve_")] == ["approve_legal"]
    assert jobs["approve_legal"]["environment"] == "prod-legal"
    assert jobs["stage_5"]["needs"] == ["propose", "approve_legal"]


@pytest.mark.parametrize(("hold_s", "minutes"), [(60, 21), (3600, 80), (86_400, LONGEST_JOB_MIN)])
def test_every_job_has_its_time_and_its_permissions(hold_s: int, minutes: int) -> None:
    found = rendered(f"[deploy]\nmax_hold_s = {hold_s}")
    assert found["permissions"] == {}
    assert found["concurrency"]["cancel-in-progress"] is False
    assert found["jobs"]["stage_5"]["timeout-minutes"] == minutes
    for job in found["jobs"].values():
        assert 0 < job["timeout-minutes"] <= LONGEST_JOB_MIN
        assert set(job["permissions"]) <= {"contents", "id-token"}
        assert job["permissions"]["contents"] == "read"


def test_no_expression_reaches_a_shell_and_every_stage_can_be_called_back() -> None:
    for name, job in rendered()["jobs"].items():
        assert not any("${{" in step.get("run", "") for step in job["steps"]), name
        if name == "staging" or name.startswith("stage_"):
            assert job["steps"][-1]["if"] == "failure() || cancelled()"
            assert "release abort" in job["steps"][-1]["run"]


def test_commands_run_in_a_deployment_that_is_rendered() -> None:
    """Not the API's: that is a Rollout."""
    at = scene(derive(default()))
    text = str([job.get("env") for job in workflow(at)["jobs"].values()])
    for env in ("staging", "prod"):
        site = at.sites[env]
        there = {named(site, role.name) for role in roles(site) if role.name != "api"}
        used = set(re.findall(rf"--namespace {site.name} exec deployment/(\S+)", text))
        assert used, env
        assert used <= there


def test_the_golden_set_goes_in_by_the_standard_input_whatever_the_name_is() -> None:
    """A contract may be called exec-rag: its namespace is no verb."""
    steps = rendered('name = "exec-rag"')["jobs"]["staging"]
    run = next(step["run"] for step in steps["steps"] if step["name"] == "The golden set")
    shell = f"PILOTIS='{steps['env']['PILOTIS']}'; echo {run.removesuffix(' < golden.jsonl')}"
    said = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert said.startswith("kubectl --namespace exec-rag-staging exec --stdin deployment/exec-rag-staging-")
    assert said.endswith("eval run /dev/stdin --gate\n")


def test_the_files_say_what_they_are_and_pin_every_action() -> None:
    made = {file.path: file for file in files(scene(derive(default())))}
    text = str(made["delivery/workflows/deploy.yml"].content)
    assert ".github/workflows/deploy.yml" in text
    uses = re.findall(r"uses: (.+)", text)
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v[0-9.]+", use) for use in uses)
    assert yaml.safe_load(text)["jobs"]
    assert [path for path, file in made.items() if file.executable] == [
        "delivery/scripts/canary_check.sh",
        "delivery/scripts/promote_canary.sh",
    ]
