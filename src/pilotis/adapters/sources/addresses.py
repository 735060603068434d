"""Which addresses a web site may have: nobody reads this machine or its network through a page that points there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from pilotis.errors import SetupError, Transient

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of a host, each of them allowed; connect to these and to no others, so that a second answer of the name server
    changes nothing. Raises SetupError where one is not allowed, Transient where the name is not known.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Transient(f"the name of the site is not known: {host}", remedy="check the address and the name server") from error
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    for address in addresses:
        if why := forbidden(ipaddress.ip_address(address), private=private):
            remedy = "set private = true for this source, if it is meant to be read" if not private else "name another address"
            raise SetupError(f"the site has an address that is {why}: {host}, {address}", remedy=remedy)
    if not addresses:
        raise Transient(f"the site has no address: {host}", remedy="check the name server")
    return addresses


def forbidden(address: Address, *, private: bool) -> str | None:
    """Why an address may not be asked; None where it may. With `private` also those of private networks and of this machine may.

    Addresses that carry another one (mapped, 6to4, Teredo, NAT64) are judged by the one they carry.
    """
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried:
            return forbidden(carried, private=private)
    if address.is_loopback:
        return None if private else "this machine's own"
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "no site's"  # 169.254.169.254, which tells a cloud machine's secrets, among them
    return None if address.is_global or private else "in a private network"
