"""Blobs in a local folder, under their SHA-256."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

from pilotis.errors import Transient

_CHUNK = 1 << 20
_ARRIVING = "arriving-"
_UNSETTLED = "unsettled"
_FORGOTTEN_S = 6 * 3600


class FolderBlobs:
    """`<folder>/ab/cdef...`: written aside, flushed to disk, then renamed, so that a name is never half a file.

    An empty file `<folder>/unsettled/abcdef...` stands for bytes that may have no document yet: looking for them reads that
    folder alone, and bytes of another database's documents are not taken for forgotten ones. Opening one clears away what a process that died while writing left behind. Raises Transient where the disk has no room or
    cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _clear_forgotten(folder)

    @property
    def where(self) -> str:
        return str(self._folder)

    async def put(self, content: Path) -> tuple[str, int]:
        """Bytes that are stored already are read, and not written again."""
        return await asyncio.to_thread(self._put, content)

    async def fetch(self, sha256: str, into: Path) -> None:
        """Raises Transient where the blob is not there: for a moment that is so when its last document goes and another comes."""
        try:
            with room(into.parent, needed=0):
                await asyncio.to_thread(shutil.copyfile, self._path(sha256), into)
        except FileNotFoundError as error:
            raise Transient(f"its stored bytes are missing ({sha256[:12]}…)", remedy="send the document again") from error

    async def exists(self, sha256: str) -> bool:
        return await asyncio.to_thread(self._path(sha256).exists)

    async def check(self, sha256: str) -> Literal["whole", "damaged", "missing"]:
        try:
            with room(self._folder, needed=0):
                return "whole" if await asyncio.to_thread(_digest, self._path(sha256)) == sha256 else "damaged"
        except FileNotFoundError:
            return "missing"

    async def settled(self, *, older_than_s: float) -> Sequence[str]:
        return await asyncio.to_thread(self._settled, time.time() - older_than_s)

    async def delete(self, sha256: str) -> None:
        await asyncio.to_thread(self._path(sha256).unlink, missing_ok=True)
        await self.settle(sha256)

    async def settle(self, sha256: str) -> None:
        with room(self._folder, needed=0):
            await asyncio.to_thread((self._folder / _UNSETTLED / sha256).unlink, missing_ok=True)

    async def unsettled(self, *, older_than_s: float) -> Sequence[str]:
        return await asyncio.to_thread(_older, self._folder / _UNSETTLED, time.time() - older_than_s)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:]

    def _settled(self, than: float) -> list[str]:
        unsettled = set(os.listdir(mark)) if (mark := self._folder / _UNSETTLED).exists() else set()  # noqa: PTH208 - names are enough
        found = []
        for part in self._folder.glob("[0-9a-f][0-9a-f]"):
            found += [digest for name in _older(part, than) if (digest := part.name + name) not in unsettled]
        return found

    def _put(self, content: Path) -> tuple[str, int]:
        with content.open("rb") as source:
            digest = file_digest(source, "sha256").hexdigest()
            size = source.tell()
            if self._path(digest).exists():
                return digest, size
            source.seek(0)
            with room(self._folder, needed=size):
                self._folder.mkdir(parents=True, exist_ok=True)
                with NamedTemporaryFile(dir=self._folder, prefix=_ARRIVING, delete=False) as aside:
                    try:
                        written, size = sha256(), 0
                        while chunk := source.read(_CHUNK):
                            written.update(chunk)
                            size += len(chunk)
                            aside.write(chunk)
                        aside.flush()
                        os.fsync(aside.fileno())
                        # The file may have changed between the two readings: what was written is what counts.
                        digest = written.hexdigest()
                        self._place(Path(aside.name), digest)
                    finally:
                        Path(aside.name).unlink(missing_ok=True)
        return digest, size

    def _place(self, aside: Path, digest: str) -> None:
        mark, final = self._folder / _UNSETTLED / digest, self._path(digest)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        if not final.parent.exists():
            final.parent.mkdir(exist_ok=True)
            _flush_folder(self._folder)
        aside.replace(final)
        _flush_folder(final.parent)


@contextmanager
def room(where: Path, *, needed: int) -> Iterator[None]:
    """Turn a full or failing disk into Transient."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            wanted = f"{needed:,} bytes needed, " if needed else ""
            raise Transient(
                f"the disk is full: {wanted}{_free(where):,} free in {where}",
                remedy="free disk space and send the document again",
                retry_after_s=30,
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
            raise Transient(
                f"{where} cannot be written: {error.strerror}", remedy="see: pilotis doctor", retry_after_s=30
            ) from error
        raise


def _free(where: Path) -> int:
    while not where.exists():
        where = where.parent
    return shutil.disk_usage(where).free


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _older(folder: Path, than: float) -> list[str]:
    found = []
    for mark in folder.glob("*"):
        with suppress(FileNotFoundError):  # settled this moment
            if mark.stat().st_mtime <= than:
                found.append(mark.name)
    return found


def _clear_forgotten(folder: Path) -> None:
    for left in folder.glob(f"{_ARRIVING}*"):
        with suppress(OSError):  # another process may be just as tidy
            if left.stat().st_mtime < time.time() - _FORGOTTEN_S:
                left.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
