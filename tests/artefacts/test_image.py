"""Dockerfile and compose files, read by hadolint, checkov, the compose schema, Docker Compose itself, HAProxy and shellcheck."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = {"pilotis": ROOT / "examples/pilotis.toml", "minimal": ROOT / "examples/minimal.toml", "built-in": None}
IMAGE = "registry.example.com/pilotis@sha256:" + 64 * "a"

Render = Callable[[Path | None], Path]
Tool = Callable[[str], str]


@pytest.fixture(params=EXAMPLES)
def docker(request: pytest.FixtureRequest, rendered: Render) -> Path:
    return rendered(EXAMPLES[request.param]) / "docker"


@pytest.fixture(scope="session")
def reads_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = (ROOT / "examples/pilotis.toml").read_text(encoding="utf-8")
    contract = tmp_path_factory.mktemp("contract") / "pilotis.toml"
    contract.write_text(text.replace("ocr = false", "ocr = true"), encoding="utf-8")
    return contract


def test_hadolint_finds_nothing(docker: Path, tool: Tool) -> None:
    assert run([tool("hadolint"), "--failure-threshold", "style", "Dockerfile"], docker) == ""


def test_hadolint_finds_nothing_where_scans_are_read(reads_scans: Path, rendered: Render, tool: Tool) -> None:
    folder = rendered(reads_scans) / "docker"
    assert "tesseract-ocr-eng tesseract-ocr-fra" in (folder / "Dockerfile").read_text()
    assert run([tool("hadolint"), "--failure-threshold", "style", "Dockerfile"], folder) == ""


def test_checkov_finds_nothing_in_the_dockerfile(docker: Path, tool: Tool) -> None:
    said = run([tool("checkov"), "--file", "Dockerfile", "--framework", "dockerfile", "--output", "json", "--quiet"], docker)
    summary = json.loads(said)["summary"]
    assert (summary["failed"], summary["skipped"], summary["parsing_errors"]) == (0, 0, 0)
    assert summary["passed"] > 10


def test_compose_files_follow_the_compose_specification(docker: Path, tool: Tool) -> None:
    files = sorted(map(str, docker.glob("*/*.yaml")))
    assert files
    assert "ok" in run([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files], docker)


def test_docker_compose_itself_understands_them(docker: Path, tool: Tool) -> None:
    """`config` resolves what each service extends, and asks nobody."""
    compose = tool("docker-compose")
    for file in sorted(docker.glob("*/compose.yaml")):
        said = run([compose, "--file", str(file), "config", "--format", "json"], docker, PILOTIS_IMAGE=IMAGE)
        services = json.loads(said)["services"]
        for name, service in services.items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
            assert "@sha256:" in service["image"], name
        assert set(services["api"]["networks"]) == {"data", "edge", "outside", "watch"}
        contract = json.loads(said)["configs"]["contract"]["content"].replace("$$", "$")
        assert json.loads(contract) == json.loads(yaml.safe_load(file.read_text())["configs"]["contract"]["content"])


def test_compose_asks_for_the_image(docker: Path, tool: Tool) -> None:
    file = next(docker.glob("*/compose.yaml"))
    done = subprocess.run(
        [tool("docker-compose"), "--file", str(file), "config"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )
    # One way to install it hides its exit code.
    assert done.stdout == ""
    assert "name the image by its digest" in done.stderr


def test_haproxy_takes_its_configuration(docker: Path) -> None:
    haproxy = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if haproxy is None:
        pytest.skip("haproxy is not there: apt-get install haproxy")
    for file in docker.glob("*/haproxy.cfg"):
        done = subprocess.run([haproxy, "-c", "-f", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr


def test_shellcheck_finds_nothing(docker: Path, tool: Tool) -> None:
    scripts = [*docker.glob("*/prepare.sh"), ROOT / "src/pilotis/render/image/start.sh"]
    assert run([tool("shellcheck"), *map(str, scripts)], docker) == ""


def test_prepare_makes_what_is_missing_once(rendered: Render, tmp_path: Path) -> None:
    folder = shutil.copytree(rendered(EXAMPLES["pilotis"]) / "docker/prod", tmp_path / "prod")
    without = subprocess.run(["./prepare.sh"], cwd=folder, capture_output=True, text=True, check=False)
    assert without.returncode == 1
    assert "missing: OPENAI_API_KEY" in without.stderr
    first = run(["./prepare.sh"], folder, OPENAI_API_KEY="sk-of-the-test")
    assert "sk-of-the-test" not in first
    kept = {path.name: path.read_text() for path in (folder / "secrets").iterdir() if path.is_file()}
    assert set(kept) == set(yaml.safe_load((folder / "compose.yaml").read_text())["secrets"])
    assert kept["PILOTIS_DATABASE_URL"].strip() == f"postgresql://pilotis:{kept['postgres'].strip()}@postgres:5432/pilotis"
    assert kept["broker"].split()[1] in kept["PILOTIS_BROKER_URL"]
    assert kept["broker"] != kept["cache"]
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    assert run(["./prepare.sh"], folder) == ""
    assert kept == {path.name: path.read_text() for path in (folder / "secrets").iterdir() if path.is_file()}


def test_start_turns_files_into_variables_and_lets_those_that_are_set_be(tmp_path: Path) -> None:
    for name, value in {
        "OPENAI_API_KEY": "from a file\n",
        "PILOTIS_REDIS_URL": "from a file\n",
        "grafana": "no variable",
    }.items():
        (tmp_path / name).write_text(value)
    told = {"PILOTIS_SECRETS": str(tmp_path), "PILOTIS_REDIS_URL": "from outside"}
    start = ROOT / "src/pilotis/render/image/start.sh"
    said = run(["sh", str(start), "sh", "-c", 'echo "$OPENAI_API_KEY, $PILOTIS_REDIS_URL, ${grafana-none}"'], tmp_path, **told)
    assert said == "from a file, from outside, none\n"
    assert run(["sh", str(start), "echo", "none there"], tmp_path, PILOTIS_SECRETS=str(tmp_path / "missing")) == "none there\n"


def run(command: list[str], folder: Path, **environ: str) -> str:
    """What it said, where it ended well."""
    told = {**os.environ, "CHECKOV_RUN_SCA_PACKAGE_SCAN": "false", "LOG_LEVEL": "ERROR", **environ}
    done = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
