"""The page at the head of what was rendered: what each file is for, and how to use it."""

from __future__ import annotations

from collections.abc import Sequence

from pilotis.render.files import File, Scene

FOLDERS = {
    "terraform": "The cloud: network, cluster, database, caches, buckets, secrets; one root per env.",
    "kubernetes": "The service on the cluster; one folder per env, of which a release is an overlay.",
    "ansible": "The service on virtual machines, two colours behind HAProxy.",
    "docker": "The image, and the whole service on one machine.",
    "delivery": "The workflow that builds, checks and releases, and its scripts.",
    "monitoring": "Rules with their tests, alert routes, dashboards, the collector; one folder per env.",
    "runbook": "What to do, in English and French.",
    "diagrams": "The architecture of each env, and the three journeys.",
    "sizing": "How much machine so many requests need.",
    "budget": "The budget sheet.",
}


def index(scene: Scene, files: Sequence[File]) -> File:
    rows = [
        f"| `{folder}/` | {sum(file.path.startswith(folder + '/') for file in files)} | {what} |"
        for folder, what in FOLDERS.items()
        if any(file.path.startswith(folder + "/") for file in files)
    ]
    envs = ", ".join(scene.sites)
    lines = [
        "<!--",
        *scene.origin,
        "-->",
        "",
        f"# {scene.plan.contract.name}: what follows from the contract",
        "",
        f"Envs: {envs}. Everything here is rendered: a change belongs into the contract. `{scene.COMMAND} --check` tells what was",
        "edited by hand or has fallen behind. Your own files may lie beside these; they are never touched.",
        "",
        "| folder | files | what |",
        "|---|--:|---|",
        *rows,
        "",
    ]
    return File(path="README.md", content="\n".join(lines))
