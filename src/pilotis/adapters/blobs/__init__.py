"""Where the original files live: a folder, or a bucket of S3."""

from __future__ import annotations

import re
from pathlib import Path

from pilotis.adapters.blobs.folder import FolderBlobs
from pilotis.errors import SetupError
from pilotis.ports import Blobs

__all__ = ["FolderBlobs", "open_blobs"]

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")


def open_blobs(place: str, *, endpoint: str | None = None) -> Blobs:
    """The store at a folder or at `s3://bucket/prefix`; `endpoint` is the address of a server that speaks S3's protocol, None for AWS.

    Connects to nothing. Raises SetupError for an address that is neither, and where boto3 is missing.
    """
    if bucket := _BUCKET.fullmatch(place):
        from pilotis.adapters.blobs.s3 import S3Blobs

        return S3Blobs(bucket[1], bucket[2] or "", endpoint=endpoint)
    if "://" in place:
        raise SetupError(f"PILOTIS_BLOBS is {place!r}", remedy="name a folder, or s3://bucket/prefix")
    return FolderBlobs(Path(place).expanduser().absolute())
