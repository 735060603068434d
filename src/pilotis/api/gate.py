"""Who comes in: so many requests at once, none while the process ends; and from which address a request comes."""

from __future__ import annotations

import asyncio
import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from pilotis.errors import Invalid, Limited

if TYPE_CHECKING:
    from starlette.types import Scope

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered also when nothing else is: whoever watches must see why."""

KEY_PARAMETERS = frozenset({"api_key", "api-key", "apikey", "x-api-key", "key", "token", "access_token", "access-token"})


class Gate:
    """Counts the requests inside and turns away those beyond `most`. For one event loop."""

    def __init__(self, most: int, *, is_warm: bool = True) -> None:
        self.phase: Literal["warming", "open", "draining"] = "open" if is_warm else "warming"
        self._most = most
        self._inside: set[asyncio.Task[object]] = set()
        self._emptied = asyncio.Event()

    @property
    def inside(self) -> int:
        """How many requests are being served."""
        return len(self._inside)

    def warmed(self) -> None:
        """Ready for requests, unless the end has come first."""
        if self.phase == "warming":
            self.phase = "open"

    def drain(self) -> None:
        """Let nobody in any more."""
        self.phase = "draining"
        if not self._inside:
            self._emptied.set()

    def enter(self, task: asyncio.Task[object]) -> None:
        """Raises Limited where there is no room, or the process is about to end."""
        if self.phase == "draining":
            raise Limited("this process is about to end", remedy="send it again", status=503, code="draining")
        if len(self._inside) >= self._most:
            raise Limited(
                f"{self._most} requests are being served, which is the most at once",
                remedy="send it again in a moment",
                status=503,
                code="overloaded",
            )
        self._inside.add(task)

    def leave(self, task: asyncio.Task[object]) -> None:
        self._inside.discard(task)
        if self.phase == "draining" and not self._inside:
            self._emptied.set()

    async def empty(self, *, within_s: float) -> bool:
        """After `drain`: wait until all have left; False where some did not in that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._emptied.wait()
        except TimeoutError:
            return False
        return True

    async def cut(self, *, within_s: float) -> int:
        """Cancel those that are still inside, so that what they have cost is settled; return how many there were."""
        left = set(self._inside)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=within_s)
        return len(left)


def refuse_keys(scope: Scope) -> None:
    """Raises Invalid (400) where an API key stands in the address: proxies, browsers and histories write addresses down."""
    query = scope["query_string"]
    if not query:
        return
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.lower() in KEY_PARAMETERS:
            raise Invalid(
                f"the address holds a key, as {name[:20]!r}: it may stand in logs by now, so consider it leaked",
                remedy="rotate the key, and send the new one as 'Authorization: Bearer KEY'",
                status=400,
                code="key_in_query",
            )


def client_ip(scope: Scope, hops: int) -> str | None:
    """The address that the outermost of `hops` trusted proxies saw; None where the transport has no addresses.

    Each proxy appends the address it was called from to X-Forwarded-For, so only the last `hops` entries are theirs: whatever
    stands left of them was written by the client. Where there are fewer, or no address stands there, the request did not come
    through all of them, and the peer's own address is taken.
    """
    peer = scope.get("client")
    if hops > 0:
        written = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        entries = written.split(",")
        if len(entries) >= hops and (seen := _address(entries[-hops].strip())):
            return seen
    return _address(peer[0]) or peer[0] if peer else None


@lru_cache(maxsize=4096)
def _address(text: str) -> str | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]  # some proxies write the port too
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)
