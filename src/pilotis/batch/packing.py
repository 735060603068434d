"""Compressed streams: zstandard where it is installed, gzip else. The end of a file's name says which it is."""

from __future__ import annotations

import asyncio
import importlib.util
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from pilotis.errors import Permanent, SetupError

ZSTD, GZIP = ".zst", ".gz"
LEVEL = 1
"""The lowest: tables shrink to a third with it, and hardly more with others that take far longer."""
SIP = 1 << 16
"""What is unpacked at once: rows that are all alike shrink a hundredfold."""
GZIP_FORMAT = 31
"""zlib's number for a gzip header and the largest window."""


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def ending() -> str:
    """What is written here and now."""
    return ZSTD if importlib.util.find_spec("zstandard") else GZIP


async def packed(content: AsyncIterable[bytes], ending: str) -> AsyncIterator[bytes]:
    """The compressed stream."""
    packer = _packer(ending)
    async for chunk in content:
        if done := await asyncio.to_thread(packer.compress, chunk):
            yield done
    yield await asyncio.to_thread(packer.flush)


async def unpacked(content: AsyncIterable[bytes], name: str) -> AsyncIterator[bytes]:
    """The stream again. Raises Permanent where it is damaged or cut off, SetupError where it cannot be read here."""
    unpacker = _unpacker(name)
    try:
        async for chunk in content:
            for at in range(0, len(chunk), SIP):
                if done := await asyncio.to_thread(unpacker.decompress, chunk[at : at + SIP]):
                    yield done
    except _errors() as error:
        raise Permanent(f"{name} is damaged: {error}") from error
    if not unpacker.eof:
        raise Permanent(f"{name} is cut off")


def _packer(ending: str) -> _Packer:
    if ending == ZSTD:
        import zstandard

        return zstandard.ZstdCompressor(level=LEVEL).compressobj()
    return zlib.compressobj(LEVEL, wbits=GZIP_FORMAT)


def _unpacker(name: str) -> _Unpacker:
    if name.endswith(GZIP):
        return zlib.decompressobj(wbits=GZIP_FORMAT)
    try:
        import zstandard
    except ImportError as error:
        raise SetupError(f"{name} is compressed with zstandard, which is missing", remedy="pip install zstandard") from error
    return zstandard.ZstdDecompressor().decompressobj()


def _errors() -> tuple[type[Exception], ...]:
    if importlib.util.find_spec("zstandard") is None:
        return (zlib.error,)
    import zstandard

    return zlib.error, zstandard.ZstdError
