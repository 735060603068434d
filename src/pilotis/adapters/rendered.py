"""The folder of rendered files: what is in it, and a new set put in its place without ever leaving half of one.

A manifest beside the files says what was rendered and with which digest: that is how a file of somebody else is known.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotis.errors import SetupError
from pilotis.render.drift import Drift, Found
from pilotis.render.files import File

MANIFEST = ".pilotis-render.json"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def look(folder: Path, wanted: Iterable[str], envs: Iterable[str] = ()) -> dict[str, Found]:
    """What is at each wanted path and at each one rendered before (of these envs, where some are named).

    Raises SetupError where the folder is none, or cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise SetupError(f"{folder} is a file, not a folder.", remedy="Name another with -o, or move that file away.")
    chosen = set(envs)
    before = {path: row["sha256"] for path, row in _manifest(folder).items() if not chosen or row["env"] in chosen}
    try:
        return {path: Found(there=_digest_of(folder / path), rendered=before.get(path)) for path in sorted({*wanted, *before})}
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}.", remedy="Make it readable.") from error


def write(folder: Path, files: Mapping[str, File], drifts: Iterable[Drift], envs: Iterable[str] = ()) -> None:
    """Bring the folder to `files`: all are written aside first, then each takes its place; what is left over goes; the manifest is last.

    Killed in between, some files are new and some old, each of them whole: the next run ends it. Raises SetupError where the folder cannot be
    written; then nothing has changed.
    """
    drifted = {drift.path: drift.what for drift in drifts}
    chosen = set(envs)
    kept = {path: row for path, row in _manifest(folder).items() if chosen and row["env"] not in chosen}
    rows = {path: {"sha256": digest(file.data), "env": file.env} for path, file in files.items()}
    manifest = json.dumps(dict(sorted({**kept, **rows}.items())), indent=1) + "\n"
    with _aside(folder) as aside:
        for path in (path for path in files if path in drifted):
            _put(aside / path, files[path])
        (aside / MANIFEST).write_text(manifest, encoding="utf-8")
        for path in (path for path in files if path in drifted):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
        for path in (path for path in files if path in drifted):
            (aside / path).replace(folder / path)
        for path in (path for path, what in drifted.items() if what == "left over"):
            (folder / path).unlink(missing_ok=True)
            _prune((folder / path).parent, folder)
        (aside / MANIFEST).replace(folder / MANIFEST)


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".pilotis-render-", dir=folder))
    except OSError as error:
        raise SetupError(
            f"{folder} cannot be written: {error.strerror}.", remedy="Name a folder of yours with -o, or change its rights."
        ) from error
    try:
        yield aside
    except OSError as error:
        raise SetupError(
            f"{error.filename or folder} cannot be written: {error.strerror}.", remedy="Mend that, and render again."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(path: Path, file: File) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as into:
        into.write(file.data)
        into.flush()
        os.fsync(into.fileno())
    path.chmod(0o755 if file.executable else 0o644)


def _prune(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _digest_of(path: Path) -> str | None:
    if path.is_symlink() or path.is_dir():
        return "not a file"
    try:
        return digest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {"sha256": str(row["sha256"]), "env": row["env"]} for name, row in rows.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SetupError(
            f"{path} is not as Pilotis wrote it: {error}.",
            remedy="Restore it from version control, or render into an empty folder.",
        ) from error
