"""The image of the service: one Dockerfile for every process, and the whole service on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pilotis.derive import tesseract
from pilotis.derive.workload import API_PORT, DATA_PATH, USER_ID, roles
from pilotis.render.files import File, Scene
from pilotis.render.image import compose, pins
from pilotis.render.image.template import fill, probe

RUN_LOCKS = ("requirements.lock", "requirements-cloud.lock")
KEPT = (*RUN_LOCKS, "requirements-build.lock", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "docs", "src")
"""What of the source goes into the build; all else stays out, whatever lies there."""
LITTER = ("**/__pycache__", "**/*.pyc", "**/.env", "**/*.pem", "**/*.key")


def files(scene: Scene) -> Iterator[File]:
    yield File(path="docker/Dockerfile", content=dockerfile(scene))
    ignored = ["*", *(f"!{name}" for name in KEPT), *LITTER]
    yield File(path="docker/Dockerfile.dockerignore", content=scene.banner() + "".join(f"{line}\n" for line in ignored))
    for site in scene.sites.values():
        yield from compose.files(scene, site)


def dockerfile(scene: Scene) -> str:
    """One for all envs: what differs between them is told to a process when it starts."""
    api = roles(next(iter(scene.sites.values())))[0]
    return fill(
        "Dockerfile.j2",
        banner=scene.banner(),
        folder="deploy",
        name=scene.plan.contract.name,
        image=scene.plan.contract.infra.image,
        python=pins.PYTHON,
        locks=[name for name in KEPT if name.endswith(".lock")],
        run_locks=" ".join(f"-r {name}" for name in RUN_LOCKS),
        tesseract=packages(scene),
        user=USER_ID,
        data=DATA_PATH,
        port=API_PORT,
        healthy=probe("/healthz"),
        command=json.dumps(list(api.command)),
    )


def packages(scene: Scene) -> list[str]:
    """Debian's packages of Tesseract's data, for all languages in which any env reads scans; none where OCR is off."""
    languages = {language for site in scene.sites.values() for language in site.env.ocr_languages}
    return sorted({tesseract.package(tesseract.name(language)) for language in languages})
