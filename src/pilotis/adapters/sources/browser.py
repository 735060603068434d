"""A guest's manners on the web: one connection a host, robots.txt, the pauses it asks for, addresses that are checked, all bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
from protego import Protego

from pilotis import __version__
from pilotis.adapters.sources.addresses import resolve
from pilotis.adapters.sources.bounded import too_large
from pilotis.adapters.sources.sitemap import Inflating
from pilotis.errors import Invalid, NotFound, Permanent, Transient

AGENT = f"pilotis/{__version__}"
MOST_REDIRECTS = 5
TRIES = 3
FIRST_PAUSE_S = 1.0
LONGEST_WAIT_S = 60.0
"""Where a server asks for more patience, the page has to wait for the next run."""
CONNECT_S, READ_S, WHOLE_S = 10.0, 20.0, 120.0
ROBOTS_BYTES = 512 << 10
"""What of a robots.txt is read: the standard's own limit."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = frozenset({80, 443})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came, once redirects are followed. `path` holds the bytes of a 200."""

    status: int
    headers: Mapping[str, str]
    url: httpx2.URL


@dataclass(slots=True)
class _Host:
    """One server, as it was found when it was first asked."""

    client: httpx2.AsyncClient
    addresses: list[str]
    robots: Protego | None = None
    """None until it is read."""
    next_at: float = 0.0
    pause_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Browser:
    """Reads pages of the allowed hosts, and of no others: a redirect that leads elsewhere is not followed."""

    def __init__(self, hosts: frozenset[str], *, port: int | None, private: bool) -> None:
        self._hosts, self._private = hosts, private
        self._ports = _PORTS | ({port} if port else set())
        self._known: dict[tuple[str, str, int], _Host] = {}

    def takes(self, url: httpx2.URL) -> str | None:
        """Why an address is not this site's; None where it is."""
        if url.scheme not in {"http", "https"}:
            return "is no web page"
        if url.userinfo:
            return "carries a user or a password"
        if _name(url) not in self._hosts:
            return f"is of another host, {_name(url)}"
        return None if _port(url) in self._ports else f"is of another port, {_port(url)}"

    async def get(
        self, url: httpx2.URL, into: Path, *, most_bytes: int, headers: Mapping[str, str] | None = None, robots: bool = True
    ) -> Answer:
        """The answer, its body in `into`; 304 only where `headers` ask for it.

        Raises NotFound for 404 and 410, Permanent for what robots.txt, a status or a redirect forbids, Invalid for more than
        `most_bytes`, Transient and SetupError where the server is away or may not be asked.
        """
        for _ in range(MOST_REDIRECTS + 1):
            if why := self.takes(url):
                raise Permanent(
                    f"leads to what is not this site's: it {why}", remedy="name that host in hosts, if it is to be read"
                )
            host = await self._host(url)
            if robots and not await self.allows(url):
                raise Permanent("robots.txt does not allow it", remedy="ask the site's owner, or exclude it")
            async with host.lock:
                answer = await self._patiently(host, url, into, most_bytes=most_bytes, headers=headers or {})
            if answer.status not in _REDIRECTS:
                return answer
            url = _next(url, answer.headers.get("location", ""))
        raise Permanent(f"redirects more than {MOST_REDIRECTS} times")

    async def allows(self, url: httpx2.URL) -> bool:
        """Whether robots.txt of its host lets us read it. Raises Transient where that cannot be known now."""
        return bool((await self._robots(await self._host(url), url)).can_fetch(str(url), AGENT))

    async def sitemaps(self, url: httpx2.URL) -> list[str]:
        """Those that the site's robots.txt names."""
        return list((await self._robots(await self._host(url), url)).sitemaps)

    async def close(self) -> None:
        for host in self._known.values():
            await host.client.aclose()

    async def _host(self, url: httpx2.URL) -> _Host:
        key = (url.scheme, _name(url), _port(url))
        if key not in self._known:
            addresses = await resolve(_name(url), _port(url), private=self._private)
            # One client each: a connection is pooled by its address, and two hosts on one address have two certificates.
            client = httpx2.AsyncClient(
                verify=httpx2.create_ssl_context(trust_env=True),  # a company's own authorities: SSL_CERT_FILE
                trust_env=False,  # a proxy would resolve the name once more
                timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
                limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
                headers={"user-agent": AGENT, "accept": "*/*", "accept-encoding": "gzip"},
            )
            self._known[key] = _Host(client, addresses)
        return self._known[key]

    async def _robots(self, host: _Host, url: httpx2.URL) -> Protego:
        """Whatever says "not there" allows all, as the standard has it; a server that fails allows nothing, for now."""
        if host.robots is None:
            from tempfile import TemporaryDirectory

            with TemporaryDirectory(prefix="pilotis-robots-") as folder:
                path = Path(folder) / "robots.txt"
                robots = url.copy_with(raw_path=b"/robots.txt", fragment=None)
                try:
                    await self.get(robots, path, most_bytes=ROBOTS_BYTES, robots=False)
                    text = path.read_text(encoding="utf-8", errors="replace")
                except Invalid:  # what came before the limit counts
                    text = path.read_text(encoding="utf-8", errors="replace")
                except (NotFound, Permanent):
                    text = ""
            host.robots = Protego.parse(text)
            rate = host.robots.request_rate(AGENT)
            paused_s = rate.seconds / rate.requests if rate and rate.requests else 0.0
            host.pause_s = max(float(host.robots.crawl_delay(AGENT) or 0.0), paused_s)
        return host.robots

    async def _patiently(
        self, host: _Host, url: httpx2.URL, into: Path, *, most_bytes: int, headers: Mapping[str, str]
    ) -> Answer:
        """Ask again where the server says that it cannot now, after the pause it names or one that doubles."""
        for tried in range(1, TRIES + 1):
            await asyncio.sleep(max(0.0, host.next_at - time.monotonic()))
            last = tried == TRIES
            try:
                async with asyncio.timeout(WHOLE_S):
                    answer = await self._once(host, url, into, most_bytes=most_bytes, headers=headers)
            except TimeoutError as error:
                raise Transient(f"the site did not send it within {WHOLE_S:.0f} s: {url}", remedy="try again later") from error
            except Transient:
                if last:
                    raise
                answer = None
            finally:
                host.next_at = time.monotonic() + host.pause_s
            if answer is not None and not (answer.status == 429 or answer.status >= 500):
                return _judged(answer)
            asked_s = _retry_after_s(answer.headers) if answer else None
            if last or (asked_s or 0) > LONGEST_WAIT_S:
                told = (
                    f"answers {answer.status}" + (f" and asks to come back in {asked_s:.0f} s" if asked_s else "")
                    if answer
                    else ""
                )
                raise Transient(f"the site {told}: {url}", remedy="try again later", retry_after_s=asked_s or 60)
            host.next_at += asked_s if asked_s is not None else FIRST_PAUSE_S * 2 ** (tried - 1)
        raise AssertionError("unreachable")

    async def _once(self, host: _Host, url: httpx2.URL, into: Path, *, most_bytes: int, headers: Mapping[str, str]) -> Answer:
        for address in host.addresses:
            pinned = url.copy_with(host=address)
            told = {**headers, "host": url.netloc.decode("ascii")}
            with _translated(url, is_last=address == host.addresses[-1]):
                request = host.client.build_request("GET", pinned, headers=told, extensions={"sni_hostname": _name(url)})
                response = await host.client.send(request, stream=True)
                try:
                    if response.status_code == 200:
                        await _pour(response, into, most_bytes)
                finally:
                    host.client.cookies.clear()
                    await response.aclose()
                return Answer(status=response.status_code, headers=response.headers, url=url)
        raise AssertionError("unreachable")


async def _pour(response: httpx2.Response, into: Path, most_bytes: int) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        raise Permanent(f"was sent in an encoding that was not asked for: {encoding[:40]}")
    inflating = Inflating(most_bytes) if "gzip" in encoding else None
    size = 0
    with into.open("wb") as copy:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > most_bytes:
                raise too_large(most_bytes)
            for part in inflating.feed(chunk) if inflating else (chunk,):
                copy.write(part)
        if inflating:
            copy.write(inflating.end())


def _judged(answer: Answer) -> Answer:
    status = answer.status
    if status in {200, 304} or status in _REDIRECTS:
        return answer
    if status in {404, 410}:
        raise NotFound(f"the site has no such page ({status})")
    if status in {401, 403, 407}:
        raise Permanent(f"the site refuses it ({status})", remedy="ask the site's owner, or exclude it")
    raise Permanent(f"the site answers {status}")


@contextmanager
def _translated(url: httpx2.URL, *, is_last: bool) -> Iterator[None]:
    """What went wrong on the way; a connection that does not come about may come about with the host's next address."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        if is_last:
            raise Transient(
                f"the site cannot be reached: {url}, {error}", remedy="check the address and the network"
            ) from error
    except httpx2.TransportError as error:
        raise Transient(f"the site broke off: {url}, {type(error).__name__} {error}", remedy="try again later") from error
    except (httpx2.InvalidURL, httpx2.HTTPError, UnicodeError) as error:
        raise Permanent(f"cannot be asked for: {error}") from error


def _next(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return url.join(location).copy_with(fragment=None)
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise Permanent("redirects to something that is no address") from error


def _name(url: httpx2.URL) -> str:
    """The host as the name server knows it."""
    return url.raw_host.decode("ascii").lower()


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds or a date, as the header may have either."""
    told = headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told[:9])
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
