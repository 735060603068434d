"""From what was typed to the files that are meant."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilotis.batch.wanted import NOT_DOCUMENTS, NOT_FOLDERS
from pilotis.errors import SetupError


@dataclass(slots=True)
class Found:
    """The files, each with the name its document gets, and what could not be read."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    skipped: int = 0


def find(given: Sequence[str], include: Sequence[str]) -> Found:
    """Expand files, folders and globs, in order of their names. A document is named by its path inside the folder that was given,
    or inside the part of a glob that has no wildcard; a file that was given by itself keeps its own name.

    Hidden files and folders are left out; links to folders are not followed. Two files that would get one name are a fault of the
    second. Raises SetupError where a path matches nothing.
    """
    found = Found()
    seen: set[Path] = set()
    names: dict[str, Path] = {}
    for text in given:
        for path, name, alone in _expand(text, found):
            identity = path.absolute()
            if identity in seen:
                continue
            seen.add(identity)
            if not _is_wanted(path, name, include, alone=alone):
                found.skipped += 1
            elif name in names:
                found.faults.append(
                    (str(path), f"would get the same name as {names[name]}: {name!r}; ingest the folder above both")
                )
            elif not path.is_file() and not path.is_symlink():
                found.faults.append((str(path), "is not a regular file"))
            else:
                names[name] = path
                found.files.append((path, name))
    return found


def _expand(text: str, found: Found) -> Iterator[tuple[Path, str, bool]]:
    """Path, name, and whether it was given by itself."""
    if os.path.lexists(text):
        root = Path(text)
        if root.is_dir():
            yield from ((path, path.relative_to(root).as_posix(), False) for path in _below(root, found))
        else:
            yield root, root.name, True
        return
    base, pattern = _parted(text)
    matches = sorted(_deep(base, pattern, found) if "**" in pattern else map(Path, glob.glob(text)))  # noqa: PTH207 - takes absolute patterns too
    if not matches:
        raise SetupError(
            f"there is nothing at {text!r}", remedy="name a file, a folder or a quoted glob such as 'docs/**/*.md'"
        )
    for match in matches:
        for path in _below(match, found) if match.is_dir() else [match]:
            yield path, path.relative_to(base).as_posix(), False


def _parted(text: str) -> tuple[Path, tuple[str, ...]]:
    """The part of a glob that has no wildcard, and the rest."""
    parts = Path(text).parts
    fixed = next((position for position, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed]), parts[fixed:]


def _deep(base: Path, pattern: Sequence[str], found: Found) -> Iterator[Path]:
    """Files below `base` that match; the library's own `**` follows links to folders, in circles too."""
    return (path for path in _below(base, found) if _matches(path.relative_to(base).parts, pattern))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _below(root: Path, found: Found) -> Iterator[Path]:
    def fault(error: OSError) -> None:
        found.faults.append((str(error.filename), error.strerror or str(error)))

    for folder, folders, files in os.walk(root, onerror=fault):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NOT_FOLDERS)
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _is_wanted(path: Path, name: str, include: Sequence[str], *, alone: bool) -> bool:
    if include:
        return any(fnmatch.fnmatch(path.name, pattern) or fnmatch.fnmatch(name, pattern) for pattern in include)
    return alone or path.suffix.lower().lstrip(".") not in NOT_DOCUMENTS
