"""A folder and what lies below it. Links are not followed: what they lead to is not the folder's to give."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath

from pilotis.adapters.sources.bounded import pour
from pilotis.batch.wanted import NOT_FOLDERS
from pilotis.errors import NotFound, Permanent, Transient
from pilotis.ports import Fetched, Item, Unlisted

LISTED_AT_ONCE = 500
RACY_NS = 2_000_000_000
"""A file changed so recently may change again without its time telling: clocks of file systems are coarse."""


class FolderSource:
    """Keys are paths below the folder, with slashes. A validator is time of change and size."""

    at_once = 2

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def items(self) -> AsyncGenerator[Item | Unlisted, None]:
        """Raises Transient where the folder itself cannot be read."""
        walk = self._walk()
        while True:
            found = await asyncio.to_thread(lambda: list(islice(walk, LISTED_AT_ONCE)))
            for item in found:
                yield item
            if len(found) < LISTED_AT_ONCE:
                return

    async def fetch(self, item: Item, into: Path, *, known: str | None, most_bytes: int) -> Fetched | None:  # noqa: ARG002
        """`known` is compared when listing: what is asked for is read."""
        return await asyncio.to_thread(self._copy, item.key, into, most_bytes)

    async def close(self) -> None:
        """Nothing is open."""

    def _walk(self) -> Iterator[Item | Unlisted]:
        """Hidden folders and those nobody means are not entered. Without recursion: a tree may be deeper than a stack."""
        pending = [""]
        while pending:
            below = pending.pop()
            try:
                with os.scandir(self._folder / below if below else self._folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if not below:
                    raise Transient(
                        f"the folder cannot be read: {self._folder}, {error.strerror}",
                        remedy="check that it is there, mounted, and readable by this user",
                    ) from error
                if error.errno != errno.ENOENT:  # it is gone, and so is all that was in it
                    yield Unlisted(prefix=below, reason=error.strerror or str(error))
                continue
            folders = []
            for entry in found:
                key = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and entry.name not in NOT_FOLDERS:
                        folders.append(f"{key}/")
                else:
                    yield _item(key, entry)
            pending += reversed(folders)

    def _copy(self, key: str, into: Path, most_bytes: int) -> Fetched:
        try:
            descriptor = _opened(self._folder, key)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound("it is gone from the folder") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Permanent("is a symbolic link, or lies behind one") from error
            raise
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, no path
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise Permanent("is not a regular file")
            pour(file.read, into, most_bytes)
            after = os.fstat(descriptor)
        if _validator(before) != _validator(after):
            raise Transient("it changed while it was being read", remedy="nothing is left to do: the next run reads it again")
        racy = time.time_ns() - after.st_mtime_ns < RACY_NS
        return Fetched(validator=None if racy else _validator(after))


def _item(key: str, entry: os.DirEntry[str]) -> Item:
    try:
        if entry.is_symlink():
            return Item(key=key, unfit="is a symbolic link")
        if not entry.is_file(follow_symlinks=False):
            return Item(key=key, unfit="is not a regular file")
        found = entry.stat(follow_symlinks=False)
    except OSError:  # reading it will say why
        return Item(key=key)
    return Item(key=key, size=found.st_size, validator=_validator(found))


def _opened(folder: Path, key: str) -> int:
    """Open a file below the folder, part by part: no link is followed, also one that took the place of a folder just now."""
    *above, name = PurePosixPath(key).parts
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in above:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
            os.close(inside)
            inside = deeper
        # Without O_NONBLOCK a pipe would keep us waiting for its writer.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=inside)
    finally:
        with suppress(OSError):
            os.close(inside)


def _validator(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}:{found.st_size}"
