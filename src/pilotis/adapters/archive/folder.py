"""An archive in a folder: written aside, flushed to disk, then renamed, so that a name is never half a file."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from pilotis.errors import NotFound, Permanent, Transient

_CHUNK = 1 << 22
_ARRIVING = ".arriving-"
_FORGOTTEN_S = 86_400.0
"""What was being written a day ago is what a process that died has left."""


class FolderArchive:
    """See `ports.archive.Archive`. The folder is made when something is first put into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().absolute()

    @property
    def where(self) -> str:
        return str(self._folder)

    async def put(self, name: str, content: AsyncIterable[bytes]) -> None:
        final = self._path(name)
        with self._faults():
            await asyncio.to_thread(_make, final.parent)
            aside = NamedTemporaryFile(dir=final.parent, prefix=_ARRIVING, delete=False)  # noqa: SIM115 - renamed, not closed by a block
            try:
                async for chunk in content:
                    await asyncio.to_thread(aside.write, chunk)
                aside.flush()
                await asyncio.to_thread(_settle, aside.fileno(), Path(aside.name), final)
            finally:
                aside.close()
                with suppress(FileNotFoundError):
                    Path(aside.name).unlink()

    async def get(self, name: str) -> AsyncIterator[bytes]:
        try:
            file = self._path(name).open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{name} is not in {self.where}", remedy="see: pilotis snapshot verify") from error
        except OSError as error:
            raise self._away(error) from error
        with file:
            while True:
                with self._faults():
                    chunk = await asyncio.to_thread(file.read, _CHUNK)
                if not chunk:
                    return
                yield chunk

    async def sizes(self, under: str) -> Mapping[str, int]:
        with self._faults():
            return await asyncio.to_thread(self._sizes, under)

    async def remove(self, names: Sequence[str]) -> None:
        with self._faults():
            await asyncio.to_thread(self._remove, names)

    def _sizes(self, under: str) -> Mapping[str, int]:
        place, sizes = self._path(under), {}
        if place.is_file():
            return {under: place.stat().st_size}
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder) / name
                with suppress(FileNotFoundError):  # removed this moment
                    if not name.startswith(_ARRIVING):
                        sizes[path.relative_to(self._folder).as_posix()] = path.stat().st_size
                    elif path.stat().st_mtime < time.time() - _FORGOTTEN_S:
                        path.unlink()
        return sizes

    def _remove(self, names: Sequence[str]) -> None:
        folders: set[Path] = set()
        for name in names:
            path = self._path(name)
            path.unlink(missing_ok=True)
            folders.update(parent for parent in path.parents if self._folder in parent.parents)
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            if folder.is_dir():
                for left in folder.glob(f"{_ARRIVING}*"):
                    left.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                folder.rmdir()

    def _path(self, name: str) -> Path:
        if name.startswith("/") or ".." in name.split("/"):
            raise Permanent(f"{name!r} is no name in an archive")
        return self._folder / name

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._away(error) from error

    def _away(self, error: OSError) -> Transient:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(next(place for place in (self._folder, *self._folder.parents) if place.exists())).free
            return Transient(
                f"the disk of {self.where} is full ({free:,} bytes free)", remedy="free some space, or take another folder"
            )
        return Transient(f"{error.filename or self.where} cannot be used: {error.strerror}", remedy="check the folder")


def _make(folder: Path) -> None:
    """With its parents, each of them there also after a power cut."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _flush(folder.parent)


def _settle(descriptor: int, aside: Path, final: Path) -> None:
    os.fsync(descriptor)
    aside.replace(final)
    _flush(final.parent)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
