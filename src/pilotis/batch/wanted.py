"""What a folder, a bucket or a site may well hold and nobody means as a document."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from pilotis.derive.origin import Origin

_MEDIA = "avi avif bmp flac gif heic ico jpeg jpg mkv mov mp3 mp4 ogg otf png svg tif tiff ttf wav webm webp woff woff2"
_ARCHIVES = "7z bz2 gz iso jar rar tar tgz whl xz zip zst"
_MADE = "bin class css db dll dylib exe js lock o pyc so sqlite sqlite3 ts wasm"
NOT_DOCUMENTS = frozenset(f"{_MEDIA} {_ARCHIVES} {_MADE}".split())
"""Extensions of what is no document. A file named by itself is always taken."""

NOT_FOLDERS = frozenset({"node_modules", "__pycache__", "CVS"})


def is_wanted(key: str, origin: Origin) -> bool:
    """Whether the source takes what it lists under `key`: by its patterns, else by what is usually a document.

    Hidden files and folders are left out whatever the patterns say; an address has none.
    """
    path = PurePosixPath(urlsplit(key).path if origin.kind == "web" else key)
    if origin.kind != "web" and any(part.startswith(".") or part in NOT_FOLDERS for part in path.parts):
        return False
    if _matches(key, path, origin.exclude):
        return False
    if origin.include:
        return _matches(key, path, origin.include)
    return path.suffix.lower().lstrip(".") not in NOT_DOCUMENTS


def _matches(key: str, path: PurePosixPath, patterns: Sequence[str]) -> bool:
    """A pattern is held against the whole key, against its path without a leading slash, and against its last part."""
    names = {key, str(path).lstrip("/"), path.name}
    return any(fnmatch.fnmatchcase(name, pattern.lstrip("/")) for name in names for pattern in patterns)
