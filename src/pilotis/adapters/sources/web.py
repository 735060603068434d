"""A web site, by its sitemaps: its pages are read as a polite guest reads them, and only where they changed."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from pilotis.adapters.sources.browser import Browser
from pilotis.adapters.sources.sitemap import MOST_BYTES, Kind, addresses
from pilotis.derive.origin import Origin
from pilotis.errors import NotFound, Permanent, PilotisError, Refused, SetupError, Transient
from pilotis.ports import Fetched, Item, Unlisted

MOST_SITEMAPS = 1000
MOST_DEPTH = 3
"""An index may list indexes, though the protocol says that it does not."""
LONGEST_VALIDATOR = 500
_AT_ONCE = 1000


class WebSource:
    """Keys are addresses of pages. A validator is the page's ETag and Last-Modified, which are asked with the next time."""

    at_once = 1

    def __init__(self, origin: Origin) -> None:
        """Raises SetupError for an address that is none after all."""
        url = _address(origin.url)
        if url is None:
            raise SetupError("the address of the site cannot be read", remedy="correct url of this source in the contract")
        self._url = url
        host = self._url.host.lower()
        twin = host.removeprefix("www.") if host.startswith("www.") else f"www.{host}"
        hosts = frozenset({host, twin, *origin.hosts})
        self._browser = Browser(hosts, port=self._url.port, private=origin.private)

    async def items(self) -> AsyncGenerator[Item | Unlisted, None]:
        """Raises Transient where the site is away, SetupError where it has no sitemap: a site without one lists nothing, it has no pages
        that are gone.
        """
        await self._browser.allows(self._url)  # a site whose robots.txt fails lists nothing for now
        waiting = deque((url, 0) for url in await self._first())
        known = {url for url, _ in waiting}
        read, alone, empty = 0, len(waiting) == 1, True
        while waiting:
            url, depth = waiting.popleft()
            read += 1
            if read > MOST_SITEMAPS:
                yield Unlisted(prefix="", reason=f"it has more than {MOST_SITEMAPS} sitemaps")
                return
            listed = self._sitemap(url)
            try:
                async with aclosing(listed):
                    async for kind, found in listed:
                        empty = False
                        if kind == "page":
                            yield await self._item(found)
                        elif depth < MOST_DEPTH and found not in known:
                            known.add(found)
                            waiting.append((found, depth + 1))
            except (Transient, Refused, Permanent) as error:
                if alone and empty:
                    raise self._without(url, error) from error
                yield Unlisted(prefix="", reason=f"the sitemap {url} {error.message}")

    async def fetch(self, item: Item, into: Path, *, known: str | None, most_bytes: int) -> Fetched | None:
        answer = await self._browser.get(httpx2.URL(item.key), into, most_bytes=most_bytes, headers=_conditions(known))
        if answer.status == 304:
            if known is None:
                raise Permanent("the site answers 304 to a question without a condition")
            return None
        return Fetched(validator=_validator(answer.headers), media_type=_declared(answer.headers.get("content-type", "")))

    async def close(self) -> None:
        await self._browser.close()

    async def _first(self) -> list[str]:
        if self._url.path.lower().endswith((".xml", ".xml.gz", ".gz")) or self._url.query:
            return [str(self._url)]
        named = [found for found in await self._browser.sitemaps(self._url) if self._why_not(found) is None]
        return named or [str(self._url.copy_with(raw_path=b"/sitemap.xml", fragment=None))]

    async def _sitemap(self, url: str) -> AsyncGenerator[tuple[Kind, str], None]:
        if why := self._why_not(url):
            raise Permanent(f"is not read: it {why}")
        with TemporaryDirectory(prefix="pilotis-sitemap-") as folder:
            path = Path(folder) / "sitemap"
            # What robots.txt names, and what the contract names, is meant to be read.
            await self._browser.get(httpx2.URL(url), path, most_bytes=MOST_BYTES, robots=False)
            walk = addresses(path)
            fault: Permanent | None = None
            while fault is None:
                found, fault = await asyncio.to_thread(_some, walk)
                for each in found:
                    yield each
                if not found:
                    break
            if fault:
                raise fault

    async def _item(self, found: str) -> Item:
        if (url := _address(found)) is None:
            return Item(key=found, unfit="is no address")
        unfit = self._browser.takes(url)
        if unfit is None and not await self._browser.allows(url):
            unfit = "robots.txt does not allow it"
        return Item(key=str(url), unfit=unfit)

    def _why_not(self, url: str) -> str | None:
        address = _address(url)
        return "is no address" if address is None else self._browser.takes(address)

    def _without(self, url: str, error: PilotisError) -> PilotisError:
        if isinstance(error, Transient):
            return error
        what = "there is none" if isinstance(error, NotFound) else error.message
        return SetupError(f"the site has no sitemap that can be read: {url}, {what}", remedy="name its sitemap in url")


def _some(walk: Iterator[tuple[Kind, str]]) -> tuple[list[tuple[Kind, str]], Permanent | None]:
    """The next ones, and why there are no more where that is a fault."""
    found: list[tuple[Kind, str]] = []
    try:
        found.extend(islice(walk, _AT_ONCE))
    except Permanent as error:
        return found, error
    return found, None


def _address(text: str) -> httpx2.URL | None:
    try:
        return httpx2.URL(text).copy_with(fragment=None)
    except (httpx2.InvalidURL, UnicodeError, ValueError):
        return None


def _conditions(known: str | None) -> dict[str, str]:
    if known is None:
        return {}
    etag, modified = json.loads(known)
    asked = {"if-none-match": etag, "if-modified-since": modified}
    return {name: value for name, value in asked.items() if value}


def _validator(headers: object) -> str | None:
    assert isinstance(headers, httpx2.Headers)
    etag, modified = headers.get("etag"), headers.get("last-modified")
    told = json.dumps([etag, modified])
    return told if (etag or modified) and told.isascii() and len(told) <= LONGEST_VALIDATOR else None


def _declared(content_type: str) -> str | None:
    media = content_type.partition(";")[0].strip().lower()
    return media if 0 < len(media) <= 100 and media.isascii() and media.isprintable() else None
