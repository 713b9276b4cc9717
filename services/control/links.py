"""The addresses of this machine's links, asked of the kernel by a netlink dump (rtnetlink(7)); the standard library suffices."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator

RTM_GETADDR, NLM_F_REQUEST_DUMP = 22, 0x301
NLMSG_DONE, NLMSG_ERROR = 3, 2
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, pid
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, link
ATTRIBUTE = struct.Struct("=HH")  # length, type
IFA_ADDRESS, IFA_LOCAL = 1, 2
GLOBAL = 0  # scope
PIECE = 65536


def own_addresses() -> list[str]:
    """Global addresses, IPv4 and IPv6, without loopback."""
    found = [ipaddress.ip_address(raw) for raw in _dump()]
    return [str(address) for address in found if not address.is_loopback]


def _dump() -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        body = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(HEADER.pack(HEADER.size + len(body), RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0) + body)
        while True:
            data = kernel.recv(PIECE)
            while data:
                length, kind, *_ = HEADER.unpack_from(data)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return
                yield from _address(data[HEADER.size : length])
                data = data[_aligned(length) :]


def _address(message: bytes) -> Iterator[bytes]:
    """The address of one message; the local one where a point-to-point link has two."""
    _family, _prefix, _flags, scope, _link = ADDRESS.unpack_from(message)
    found: dict[int, bytes] = {}
    rest = message[ADDRESS.size :]
    while len(rest) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(rest)
        found[kind] = rest[ATTRIBUTE.size : length]
        rest = rest[_aligned(length) :]
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if scope == GLOBAL and raw:
        yield raw


def _aligned(length: int) -> int:
    return (length + 3) & ~3
