"""Sitemaps, as the protocol of sitemaps.org has them: addresses of pages, or of further sitemaps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from pilotis.errors import Invalid, Permanent, Transient

MOST_BYTES = 50 << 20
"""Of one sitemap, unpacked: the protocol's own limit."""
MOST_DEPTH = 8
LONGEST_ADDRESS = 2048
_CHUNK = 1 << 16

Kind = Literal["page", "sitemap"]


def addresses(path: Path) -> Iterator[tuple[Kind, str]]:
    """What a sitemap or a sitemap index lists, packed with gzip or not, in the order of the file, read as a stream.

    Raises Permanent, after what could be read, where the file is none, breaks off, or holds a DOCTYPE, which no sitemap has.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = _Bounded(file, packed=packed)
        kind: Kind | None = None
        depth, root = 0, None
        try:
            # Pieces are dropped as soon as they are read: what is kept does not grow with the file.
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                tag = str(element.tag).rpartition("}")[2]
                if event == "start":
                    depth += 1
                    if depth > MOST_DEPTH:
                        raise Permanent("is nested too deeply for a sitemap")
                    if root is None:
                        root, kind = element, _kind(tag)
                    continue
                depth -= 1
                if tag == "loc" and depth == 2 and kind and element.text and len(element.text) <= LONGEST_ADDRESS:
                    yield kind, element.text.strip()
                if depth == 1 and root is not None:
                    root.clear()
        except ParseError as error:
            raise Permanent(f"is no valid XML: {error}") from error
        except DefusedXmlException as error:
            raise Permanent("holds a DOCTYPE or entities, which no sitemap has") from error
        except (zlib.error, EOFError) as error:
            raise Permanent("is packed with gzip and damaged") from error


def _kind(root: str) -> Kind:
    if root == "urlset":
        return "page"
    if root == "sitemapindex":
        return "sitemap"
    raise Permanent("is no sitemap: it begins with another element than urlset or sitemapindex")


class _Bounded:
    """A file to read from, unpacked on the way, and no more of it than a sitemap may have."""

    def __init__(self, file: IO[bytes], *, packed: bool) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31) if packed else None
        self._left = MOST_BYTES

    def read(self, size: int = _CHUNK) -> bytes:
        read = self._unpacked(min(size, _CHUNK) if size > 0 else _CHUNK)
        self._left -= len(read)
        if self._left < 0:
            raise Permanent(f"has more than {MOST_BYTES >> 20} MiB, the most a sitemap may have")
        return read

    def _unpacked(self, size: int) -> bytes:
        if self._inflate is None:
            return self._file.read(size)
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            if read := self._inflate.decompress(packed, size):
                return read
            if not packed:
                raise EOFError
        return b""


class Inflating:
    """Unpacks a gzip body as it arrives, never more than asked for. Raises Invalid after `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._inflate = zlib.decompressobj(wbits=47)
        self._left = most_bytes

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            try:
                read = self._inflate.decompress(chunk, _CHUNK)
            except zlib.error as error:
                raise Permanent("was sent packed and damaged") from error
            self._left -= len(read)
            if self._left < 0:
                raise Invalid(
                    "unpacks to more than is taken", remedy="exclude it, or raise limits.max_file_mib in the contract"
                )
            if read:
                yield read
            chunk = self._inflate.unconsumed_tail

    def end(self) -> bytes:
        """What is left when all has arrived. Raises Transient where the end is missing."""
        rest = self._inflate.flush(_CHUNK)
        if not self._inflate.eof:
            raise Transient("the site broke off in the middle of a packed answer", remedy="try again later")
        return rest
