"""The PROXY protocol (haproxy.org, versions 1 and 2): who the client of a trusted proxy is.

The header comes before TLS and must be taken off the socket to the byte, because what follows belongs to the handshake. A connection
without one is taken as it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_V1 = 107  # bytes, with the line's end
LONGEST_V2 = 4096
PATIENCE = 5.0  # seconds until the header must be there
HANDSHAKE = 0x16  # first byte of a TLS handshake
FAMILIES = {1: 4, 2: 16}  # of version 2: INET, INET6, with the size of an address


class Malformed(Exception):
    """What stands before the handshake is no PROXY header."""


async def client_of(sock: socket.socket) -> str:
    """ "10.0.0.1:4711" of a header, "" if there is none or it names nobody. Raises Malformed, TimeoutError, OSError."""
    async with asyncio.timeout(PATIENCE):
        first = await _peek(sock)
        if not first or first[0] == HANDSHAKE:
            return ""
        if first == b"P":
            return _version_1(await _line(sock))
        head = await _exactly(sock, 16)
        if head[:12] != SIGNATURE or head[12] >> 4 != 2:
            raise Malformed
        (length,) = struct.unpack("!H", head[14:16])
        if length > LONGEST_V2:
            raise Malformed
        return _version_2(head, await _exactly(sock, length))


def _version_1(line: bytes) -> str:
    words = line.decode("ascii", "replace").split()
    if words[:1] != ["PROXY"] or len(words) < 2:
        raise Malformed
    if words[1] == "UNKNOWN":
        return ""
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise Malformed
    return _named(words[2], words[4])


def _version_2(head: bytes, body: bytes) -> str:
    if head[12] & 0x0F == 0:  # LOCAL: the proxy itself, a health check
        return ""
    size = FAMILIES.get(head[13] >> 4)
    if size is None:
        return ""
    if len(body) < 2 * size + 4:
        raise Malformed
    (port,) = struct.unpack("!H", body[2 * size : 2 * size + 2])
    return _named(str(ipaddress.ip_address(body[:size])), str(port))


def _named(host: str, port: str) -> str:
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise Malformed from None
    if not 0 <= number <= 65535:
        raise Malformed
    return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


async def _peek(sock: socket.socket) -> bytes:
    """The next byte, left where it is; b"" at the end."""
    while True:
        try:
            return sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    found = b""
    while len(found) < size:
        piece = await loop.sock_recv(sock, size - len(found))
        if not piece:
            raise Malformed
        found += piece
    return found


async def _line(sock: socket.socket) -> bytes:
    """Byte by byte, for nothing beyond its end may be taken."""
    found = b""
    while not found.endswith(b"\n"):
        if len(found) >= LONGEST_V1:
            raise Malformed
        found += await _exactly(sock, 1)
    return found
