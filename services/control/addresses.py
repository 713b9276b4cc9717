"""Addresses that the server's configuration asks to listen on: whether their names resolve, and whether they can be had.

Control only tries; the gateway listens for real when the row says so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from chassis import errors, listening
from chassis.key_types import quote
from services.control import keys

Texts = Mapping[str, str]
PORTS = {
    keys.HTTPS_ADDRESS.name: listening.HTTPS,
    keys.METRICS_ADDRESS.name: listening.METRICS,
    keys.DEBUG_ADDRESS.name: listening.DEBUG,
}
SENTENCES = {
    keys.HTTPS_ADDRESS.name: 'Cannot listen on network HTTPS socket "{address}": {reason}',
    keys.METRICS_ADDRESS.name: "Cannot listen on http socket: Bind network address: {reason}",
    keys.DEBUG_ADDRESS.name: "Cannot listen on http socket: {reason}",
}
PATIENCE = 10.0  # seconds that a name server may take


async def look_up(name: str, address: str) -> None:
    """The host of an address key must be a number or a name that resolves. Raises BadRequest."""
    try:
        host, _port = listening.divide(address)
    except ValueError:
        return  # refused, with another sentence, where it is tried
    if host in listening.WILDCARDS or listening.is_number(host):
        return
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError, TimeoutError):
        raise errors.BadRequest(f"cannot set '{name}' to '{address}': Couldn't resolve {quote(host)}") from None


async def probe(texts: Texts, before: Texts, changed: set[str]) -> None:
    """Raises Internal, as LXD, for an address that cannot be listened on, or that another key has."""
    for name, port in PORTS.items():
        address = texts.get(name, "")
        if not address or name not in changed:
            continue
        try:
            place = listening.split(address, port)
            _refuse_shared(place, texts, name)
            own = {found[1] for found in _places(before).values()}
            await _bind(place, held=place[1] in own)
        except ValueError as error:
            _refuse(name, address, f"listen tcp: {error}")
        except (OSError, UnicodeError) as error:
            reason = (getattr(error, "strerror", "") or str(error)).lower()
            host = f"[{place[0]}]" if ":" in place[0] else place[0]
            _refuse(name, address, f"listen tcp {host}:{place[1]}: bind: {reason}")


def _refuse(name: str, address: str, reason: str) -> None:
    raise errors.Internal(SENTENCES[name].format(address=address, reason=reason)) from None


def _places(texts: Texts) -> dict[str, tuple[str, int]]:
    """Host and port by key, for the addresses that are set and can be read."""
    found = {}
    for name, port in PORTS.items():
        try:
            if texts.get(name):
                found[name] = listening.split(texts[name], port)
        except ValueError:
            continue
    return found


def _refuse_shared(place: tuple[str, int], texts: Texts, name: str) -> None:
    others = (found for other, found in _places(texts).items() if other != name)
    if any(listening.overlap(place, other) for other in others):
        raise OSError(0, "address already in use")


async def _bind(place: tuple[str, int], *, held: bool) -> None:
    """Try it. A port that this server listens on already (`held`) is taken by nobody else: then only the host is tried."""
    host, port = place
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, 0 if held else port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, name in found:
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(name)
