"""The manifests through the checkers of their kind: Kubernetes' own schemas, those of the controllers, kustomize, checkov, yamllint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotis.render.kubernetes.common import UNSET_DIGEST

ROOT = Path(__file__).parents[2]
RELEASED = "sha256:" + 64 * "a"
BLUE_GREEN = """
name = "rag"
[infra]
blobs = "s3"
[deploy]
strategy = "blue_green"
rollback_on = "never"
[envs.dev]
llm = "extractive"
[envs.dev.secrets]
provider = "aws"
[envs.staging]
llm = "gpt-5-mini"
[envs.staging.secrets]
provider = "vault"
[envs.prod]
llm = "gpt-5-mini"
[envs.prod.secrets]
provider = "file"
"""
OURS = {
    "Rollout",
    "AnalysisTemplate",
    "Gateway",
    "HTTPRoute",
    "ScaledObject",
    "TriggerAuthentication",
    "ServiceMonitor",
    "PrometheusRule",
}
OURS |= {"ExternalSecret"}
"""The kinds of controllers: `kubernetes-validate` knows none of them."""


@pytest.fixture(scope="module", params=["pilotis.toml", "minimal.toml", "built-in", "blue_green"])
def folder(
    request: pytest.FixtureRequest, rendered: Callable[[Path | None], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`kubernetes/` of a rendered contract."""
    if request.param == "built-in":
        return rendered(None) / "kubernetes"
    if request.param == "blue_green":
        path = tmp_path_factory.mktemp("contract") / "pilotis.toml"
        path.write_text(BLUE_GREEN)
        return rendered(path) / "kubernetes"
    return rendered(ROOT / "examples" / request.param) / "kubernetes"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=100, check=False)


def manifests(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.yaml")) if path.name != "kustomization.yaml"]


def test_built_in_kinds_are_as_kubernetes_1_33_has_them(folder: Path, tool: Callable[[str], str]) -> None:
    done = run(tool("kubernetes-validate"), "-k", "1.33", "--strict", *manifests(folder))
    unknown = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("WARN")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout.upper()
    strange = [line for line in unknown if not any(f"kind {kind} " in line for kind in OURS)]
    assert strange == []


def test_a_key_that_kubernetes_does_not_know_is_found(
    rendered: Callable[[Path | None], Path], tool: Callable[[str], str], tmp_path: Path
) -> None:
    job = yaml.safe_load((rendered(None) / "kubernetes/prod/migration.yaml").read_text())
    job["spec"]["retries"] = 3
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert run(tool("kubernetes-validate"), "-k", "1.33", "--strict", tmp_path / "job.yaml").returncode == 1


def test_kinds_of_controllers_are_as_their_definitions_have_them(folder: Path, shared: Path) -> None:
    done = run(sys.executable, shared / "tools" / "check_crds.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 faults" in done.stdout


def test_kustomize_puts_all_together_and_a_release_names_every_image(folder: Path, tool: Callable[[str], str]) -> None:
    for env in sorted(folder.iterdir()):
        image = yaml.safe_load((env / "kustomization.yaml").read_text())["images"][0]["name"]
        (rollout,) = (one for one in yaml.safe_load_all((env / "api.yaml").read_text()) if one["kind"] == "Rollout")
        overlay = folder.parent / "release" / env.name
        overlay.mkdir(parents=True, exist_ok=True)
        patch = '- {op: replace, path: /metadata/annotations/pilotis~1release, value: "r-1"}'
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../../kubernetes/{env.name}"],
            "images": [{"name": image, "digest": RELEASED}],
            "patches": [{"target": {"kind": "Rollout", "name": rollout["metadata"]["name"]}, "patch": patch}],
        }
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        done = run(tool("kubectl"), "kustomize", overlay)
        assert done.returncode == 0, done.stderr
        made = list(yaml.safe_load_all(done.stdout))
        written = [one for path in manifests(env) for one in yaml.safe_load_all(path.read_text())]
        assert len(made) == len(written)
        assert UNSET_DIGEST not in done.stdout
        images = {f"{image}@{RELEASED}"}
        assert {c["image"] for one in made for c in containers(one)} == images
        (released,) = (one for one in made if one["kind"] == "Rollout")
        assert released["metadata"]["annotations"]["pilotis/release"] == "r-1"


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return found


def test_checkov_finds_nothing_that_is_not_left_out_with_a_reason(
    folder: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """It knows no Rollout: its pods are shown to it as those of a Deployment."""
    for path in manifests(folder):
        documents = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            if document["kind"] == "Rollout":
                skips = {
                    "checkov.io/skip1": "CKV_K8S_11=x",
                    "checkov.io/skip2": "CKV_K8S_15=x",
                    "checkov.io/skip3": "CKV_K8S_35=x",
                }
                document |= {"apiVersion": "apps/v1", "kind": "Deployment"}
                document["metadata"]["annotations"] |= skips
                del document["spec"]["strategy"]
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump_all(documents))
    done = run(tool("checkov"), "-d", tmp_path, "--framework", "kubernetes", "--quiet", "--compact", "--skip-download")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Passed checks" in done.stdout
    assert "Failed checks: 0" in done.stdout


def test_yamllint_finds_nothing(folder: Path, tool: Callable[[str], str]) -> None:
    """Lines may be long: the contract's own are."""
    done = run(tool("yamllint"), "--strict", "-d", "{extends: default, rules: {line-length: disable}}", folder)
    assert done.returncode == 0, done.stdout
