"""Where snapshots live: a folder, or a bucket of S3."""

from __future__ import annotations

from pathlib import Path

from pilotis.ports.archive import Archive


def open_archive(place: str) -> Archive:
    """The archive at a folder or at `s3://bucket/prefix`. Raises SetupError for an address that is none."""
    from pilotis.adapters.archive.folder import FolderArchive

    return FolderArchive(Path(place))


__all__ = ["open_archive"]
