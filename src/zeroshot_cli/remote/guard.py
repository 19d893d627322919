"""Where a connection may lead: a server that redirects must not make this machine ask its own network."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

NAMED, FOREIGN, ANY = "named", "foreign", "any"
"""Whose host it is: that of the address itself, one that a redirect names, or any by `--allow-private`."""
ALLOW = " (--allow-private)"

_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    [ip_address("fd00:ec2::254"), ip_address("100.100.100.200")]
)  # besides link-local 169.254.169.254


class PrivateHost(Exception):
    """A connection would lead into a private network or onto this machine; the text is the reason."""


def check_ip(text: str, whose: str) -> None:
    """Raise PrivateHost for an IP address that may not be connected to; a host's name is no fault.

    The services that tell a cloud's machines their credentials are for nobody but `ANY`.
    """
    try:
        given = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return
    address = _inner(given)
    if whose == ANY:
        return
    if address.is_link_local or address in _METADATA:
        raise PrivateHost(f"leads to {text}, where machines of a cloud keep their credentials{ALLOW}")
    if whose == FOREIGN and (not address.is_global or address.is_multicast or address.is_reserved or _is_site(address)):
        raise PrivateHost(f"redirects to {text}, in a private network or on this machine{ALLOW}")


def _is_site(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is of the private networks that IPv6 once had, which Python takes for global."""
    return isinstance(address, IPv6Address) and address.is_site_local


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def resolver(whose: str) -> Any:
    """Return aiohttp's resolver, which checks every IP address that a connection is made to.

    The check and the connection use one look-up, so a name cannot lead elsewhere in between.
    """
    from aiohttp.abc import AbstractResolver
    from aiohttp.resolver import ThreadedResolver

    class Guarded(AbstractResolver):
        def __init__(self) -> None:
            self._inner = ThreadedResolver(loop=asyncio.get_running_loop())

        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            found = await self._inner.resolve(host, port, family)
            for each in found:
                check_ip(each["host"], whose)
            return found

        async def close(self) -> None:
            await self._inner.close()

    return Guarded()
