"""The workflow that builds, checks and releases (GitHub Actions), its scripts, and how they play together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pilotis.derive.site import Site
from pilotis.derive.workload import named
from pilotis.render.files import File, Scene, to_yaml

ACTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "actions/checkout": ("11bd71901bbe5b1630ceea73d27597364c9af683", "v4.2.2"),
        "actions/setup-python": ("a26af69be951a213d495a4c3e4e4022e16d87065", "v5.6.0"),
        "aquasecurity/trivy-action": ("ed142fd0673e97e23eac54620cfb913e5ce36c25", "v0.36.0"),
        "aws-actions/configure-aws-credentials": ("b47578312673ae6fa5b5096b330d9fbac3d116df", "v4.2.1"),
        "docker/build-push-action": ("263435318d21b8e681c14492fe198d362a7d2c83", "v6.18.0"),
        "docker/login-action": ("74a5d142397b4f367a81961eba4e8cd7edddf772", "v3.4.0"),
        "docker/setup-buildx-action": ("b5ca514318bd6ebac0fb2aedd5d36ec1b5c232a2", "v3.10.0"),
    }
)
"""Every action by the commit of its version: a tag can be moved, a commit cannot."""

LONGEST_JOB_MIN = 360
"""What a hosted runner gives a job at most."""
_SLACK_MIN = 10
"""Of a job beside what its script waits for: checkout, login, abort."""
_PYTHON = "3.12"
_BESIDE = "upkeep"
"""The process in whose pod commands are run: every env has one, and no request waits for it."""
_READ = {"contents": "read"}
_CLOUD = {"contents": "read", "id-token": "write"}


def files(scene: Scene) -> Iterator[File]:
    """The workflow, its two scripts and their page."""
    templates = Environment(
        loader=PackageLoader("pilotis.render", "delivery_files"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - shell and Markdown, of values that the contract's patterns bound
    )
    told = {
        "scene": scene,
        "site": scene.main,
        "deploy": scene.plan.contract.deploy,
        "stages": stages(scene),
        "actions": ACTIONS,
    }
    yield File(path="delivery/workflows/deploy.yml", content=scene.banner() + _HEAD + _pinned(to_yaml(workflow(scene))))
    for name in ("canary_check.sh", "promote_canary.sh"):
        text = templates.get_template(f"{name}.j2").render(told | {"banner": scene.banner().rstrip()})
        yield File(path=f"delivery/scripts/{name}", content=text, executable=True)
    banner = "<!--\n" + "\n".join(scene.origin) + "\n-->\n\n"
    yield File(path="delivery/README.md", content=banner + templates.get_template("README.md.j2").render(told))


def stages(scene: Scene) -> tuple[int, ...]:
    """Shares of traffic in per cent; a blue/green release has the last one alone."""
    deploy = scene.plan.contract.deploy
    return deploy.stages if deploy.strategy == "canary" else deploy.stages[-1:]


def workflow(scene: Scene) -> dict[str, Any]:
    """The workflow as plain values, keys in the order in which they are read."""
    site = scene.main
    jobs = {"contract": _contract(), "build": _build(site), "scan": _scan(site)}
    last = ["build", "scan"]
    staging = scene.sites.get("staging")
    if staging is not None and staging is not site:
        jobs["staging"] = _staging(scene, staging)
        last = ["build", "staging"]
    jobs["propose"] = _propose(scene, last)
    last = ["propose"]
    for role in scene.plan.contract.deploy.approvals:
        jobs[f"approve_{role}"] = _approve(site, role)
        last.append(f"approve_{role}")
    for share in stages(scene):
        jobs[f"stage_{share}"] = _stage(scene, share, last)
        last = ["propose", f"stage_{share}"]
    return {
        "name": f"Release {scene.plan.contract.name}",
        "on": {"push": {"branches": ["main"]}},
        "permissions": {},
        "concurrency": {"group": f"release-{scene.plan.contract.name}", "cancel-in-progress": False},
        "defaults": {"run": {"shell": "bash"}},
        "jobs": jobs,
    }


_HEAD = (
    "# Copy it to .github/workflows/deploy.yml: only from there does GitHub run it. Hosted runners need the network for their actions,\n"
    "# packages, the registry and the cloud. Repository variable: AWS_REGISTRY_ROLE; of each environment: AWS_ROLE (of OIDC).\n"
)


def _pinned(text: str) -> str:
    """Each action with its version, and each permission with its reason, in a comment."""
    for action, (commit, version) in ACTIONS.items():
        text = text.replace(f"{action}@{commit}", f"{action}@{commit}  # {version}")
    return text.replace("id-token: write", "id-token: write  # logs in to the cloud by OIDC")


def _use(action: str, name: str, **inputs: Any) -> dict[str, Any]:
    return {"name": name, "uses": f"{action}@{ACTIONS[action][0]}"} | ({"with": inputs} if inputs else {})


def _checkout() -> dict[str, Any]:
    return _use("actions/checkout", "Check out", **{"persist-credentials": False})


def _job(
    name: str, minutes: int, permissions: Mapping[str, str], steps: list[dict[str, Any]], needs: list[str], **more: Any
) -> dict[str, Any]:
    head: dict[str, Any] = {"name": name, "runs-on": "ubuntu-24.04", "timeout-minutes": minutes}
    return head | ({"needs": needs} if needs else {}) | {"permissions": dict(permissions)} | more | {"steps": steps}


def _contract() -> dict[str, Any]:
    steps = [
        _checkout(),
        _use("actions/setup-python", "Set up Python", **{"python-version": _PYTHON}),
        {
            "name": "Install Pilotis",
            "run": "python -m pip install --require-hashes -r requirements.lock\npython -m pip install --no-deps .\n",
        },
        {"name": "The contract holds", "run": "pilotis contract check"},
        {"name": "What is rendered is as the contract says", "run": "pilotis render --check"},
    ]
    return _job("Contract", 15, _READ, steps, [])


def _build(site: Site) -> dict[str, Any]:
    image = site.infra.image
    steps = [
        _checkout(),
        _cloud(site, "${{ vars.AWS_REGISTRY_ROLE }}"),
        _use("docker/login-action", "Log in to the registry", registry=image.split("/")[0]),
        _use("docker/setup-buildx-action", "Set up the builder"),
        {
            "id": "push",
            **_use(
                "docker/build-push-action",
                "Build, attest provenance and contents, push",
                context=".",
                file="deploy/docker/Dockerfile",
                push=True,
                provenance="mode=max",
                sbom=True,
                tags=f"{image}:${{{{ github.sha }}}}",
            ),
        },
    ]
    return _job(
        "Build", 45, _CLOUD, steps, ["contract"], outputs={"digest": "${{ steps.push.outputs.digest }}"}, environment="build"
    )


def _scan(site: Site) -> dict[str, Any]:
    steps = [
        _cloud(site, "${{ vars.AWS_REGISTRY_ROLE }}"),
        _use("docker/login-action", "Log in to the registry", registry=site.infra.image.split("/")[0]),
        _use(
            "aquasecurity/trivy-action",
            "Refuse known vulnerabilities that have a remedy",
            **{
                "image-ref": f"{site.infra.image}@${{{{ needs.build.outputs.digest }}}}",
                "severity": "HIGH,CRITICAL",
                "ignore-unfixed": True,
                "exit-code": "1",
            },
        ),
    ]
    return _job("Scan", 20, _CLOUD, steps, ["build"], environment="build")


def _staging(scene: Scene, site: Site) -> dict[str, Any]:
    steps = [
        _checkout(),
        *_reach(site),
        _create(),
        {
            "name": "Start, and wait for the verdict",
            "env": {"RELEASE": "${{ steps.create.outputs.release }}"},
            "run": "deploy/delivery/scripts/promote_canary.sh start\ndeploy/delivery/scripts/canary_check.sh\n",
        },
        {"name": "It answers", "run": f'curl --fail --silent --show-error --max-time 30 "https://{site.host}/health/ready"'},
        {"name": "The golden set", "run": "${PILOTIS/ exec / exec --stdin } eval run /dev/stdin --gate < golden.jsonl"},
        _abort("${{ steps.create.outputs.release }}"),
    ]
    return _job(
        "Staging", _minutes(scene), _CLOUD, steps, ["build", "scan"], environment=site.env.name, env={"PILOTIS": _pilotis(site)}
    )


def _propose(scene: Scene, needs: list[str]) -> dict[str, Any]:
    site = scene.main
    outputs = {"release": "${{ steps.create.outputs.release }}"}
    steps = [*_reach(site), _create()]
    return _job(
        "Propose", 15, _CLOUD, steps, needs, environment=site.env.name, outputs=outputs, env={"PILOTIS": _pilotis(site)}
    )


def _approve(site: Site, role: str) -> dict[str, Any]:
    steps = [
        *_reach(site),
        {
            "name": "Pilotis has the approval on record",
            "env": {"RELEASE": "${{ needs.propose.outputs.release }}", "ROLE": role},
            "run": "$PILOTIS release status \"$RELEASE\" --json | jq --exit-status 'any(.approvals[]; .role == env.ROLE)'",
        },
    ]
    env = {"PILOTIS": _pilotis(site)}
    return _job(f"Approval of {role}", 15, _CLOUD, steps, ["propose"], environment=f"{site.env.name}-{role}", env=env)


def _stage(scene: Scene, share: int, needs: list[str]) -> dict[str, Any]:
    site = scene.main
    verb = "start" if share == stages(scene)[0] else "promote"
    env = {"PILOTIS": _pilotis(site), "RELEASE": "${{ needs.propose.outputs.release }}"}
    steps = [
        _checkout(),
        *_reach(site),
        {"name": f"To {share} % of the traffic", "run": f"deploy/delivery/scripts/promote_canary.sh {verb}"},
        {"name": "Wait for the verdict", "run": "deploy/delivery/scripts/canary_check.sh"},
        _abort("${{ needs.propose.outputs.release }}"),
    ]
    return _job(f"{share} %", _minutes(scene), _CLOUD, steps, needs, environment=site.env.name, env=env)


def _minutes(scene: Scene) -> int:
    return min(LONGEST_JOB_MIN, ceil(scene.plan.contract.deploy.max_hold_s / 60) + 2 * _SLACK_MIN)


def _pilotis(site: Site) -> str:
    """Run beside the service: its secrets and its database stay within the cluster."""
    return f"kubectl --namespace {site.name} exec deployment/{named(site, _BESIDE)} -- python -m pilotis --env {site.env.name}"


def _cloud(site: Site, role: str) -> dict[str, Any]:
    inputs = {"role-to-assume": role, "aws-region": site.infra.region}
    return _use("aws-actions/configure-aws-credentials", "Log in to the cloud, without a stored key", **inputs)


def _reach(site: Site) -> list[dict[str, Any]]:
    run = f"aws eks update-kubeconfig --name {site.name} --region {site.infra.region}"
    return [_cloud(site, "${{ vars.AWS_ROLE }}"), {"name": "Reach the cluster", "run": run}]


def _create() -> dict[str, Any]:
    return {
        "name": "Create the release",
        "id": "create",
        "env": {"DIGEST": "${{ needs.build.outputs.digest }}"},
        "run": 'release=$($PILOTIS release create --image "$DIGEST" --json | jq --exit-status --raw-output .id)\n'
        'echo "release=$release" >> "$GITHUB_OUTPUT"\n',
    }


def _abort(release: str) -> dict[str, Any]:
    return {
        "name": "Call it back",
        "if": "failure() || cancelled()",
        "env": {"RELEASE": release},
        "run": '[ -z "$RELEASE" ] || $PILOTIS release abort "$RELEASE" --json',
    }
