"""Where documents come from: folders, S3 buckets, web sites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pilotis.derive.origin import Origin
from pilotis.ports import Source


def opener(contract: Path | None) -> Callable[[Origin], Source]:
    """How a source is opened; a relative path begins where the contract lies, or in the current folder.

    What it returns raises SetupError where a source needs what is not installed.
    """
    base = contract.absolute().parent if contract else Path.cwd()

    def opened(origin: Origin) -> Source:
        if origin.kind == "folder":
            from pilotis.adapters.sources.folder import FolderSource

            return FolderSource(base / Path(origin.path).expanduser())
        if origin.kind == "s3":
            from pilotis.adapters.sources.s3 import S3Source

            return S3Source(origin)
        from pilotis.adapters.sources.web import WebSource

        return WebSource(origin)

    return opened
