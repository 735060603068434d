"""Where snapshots live: a folder, or a bucket of S3."""

from __future__ import annotations

import re
from pathlib import Path

from pilotis.errors import SetupError
from pilotis.ports.archive import Archive

__all__ = ["open_archive"]

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")


def open_archive(place: str) -> Archive:
    """The archive at a folder or at `s3://bucket/prefix`. Raises SetupError for an address that is neither."""
    if bucket := _BUCKET.fullmatch(place):
        from pilotis.adapters.archive.s3 import S3Archive

        return S3Archive(bucket[1], bucket[2] or "")
    if "://" in place:
        raise SetupError(f"{place!r} is no place for snapshots", remedy="name a folder, or s3://bucket/prefix")
    from pilotis.adapters.archive.folder import FolderArchive

    return FolderArchive(Path(place))
