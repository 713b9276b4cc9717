"""Links and addresses of a network namespace, by rtnetlink without a library: a hundred namespaces are read in milliseconds.

Blocking and for threads only: `inside` moves the calling thread into a namespace and back. Numbers are those of linux/rtnetlink.h and
linux/if_link.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from services.instances.host.process import Watched

CLONE_NEWNET = 0x40000000
NETLINK_ROUTE = 0
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 17, 18, 19, 20, 22
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_STATS64, IFLA_NET_NS_FD = 1, 3, 4, 18, 23, 28
IFLA_INFO_KIND = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_POINTOPOINT = 0x1, 0x2, 0x8, 0x10
HEADER = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
ATTRIBUTE = struct.Struct("=HH")
COUNTERS = struct.Struct("=8Q")  # rx/tx packets, rx/tx bytes, rx/tx errors, rx/tx dropped
BUFFER = 65536
MOST = 1000  # links or addresses that are read of one namespace: a container may make as many as it likes
SHOWN = frozenset((IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_STATS64))

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    flags: int
    mtu: int
    hwaddr: str
    counters: tuple[int, ...]  # as COUNTERS
    kind: str = ""  # veth, macvlan, ...; "" for hardware

    @property
    def type(self) -> str:
        """LXD's word; the last flag that fits wins, as there."""
        kinds = ((IFF_BROADCAST, "broadcast"), (IFF_LOOPBACK, "loopback"), (IFF_POINTOPOINT, "point-to-point"))
        return next((word for flag, word in reversed(kinds) if self.flags & flag), "unknown")

    @property
    def state(self) -> str:
        return "up" if self.flags & IFF_UP else "down"


@dataclass(frozen=True, slots=True)
class Address:
    index: int
    family: str  # inet or inet6
    address: str
    prefix: int

    @property
    def scope(self) -> str:
        """LXD's word, which goes by the address and not by the kernel's scope."""
        if self.address.startswith("127.") or self.address == "::1":
            return "local"
        return "link" if self.address.startswith(("169.254.", "fe80:")) else "global"


def setns(fd: int, kind: int) -> None:
    """Moves the calling thread. Raises OSError."""
    if _libc.setns(fd, kind) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def inside(init: Watched) -> Iterator[None]:
    """This thread in the network namespace of a process. Raises OSError."""
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = init.open("ns/net")
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


class Route:
    """A netlink socket of the namespace that the thread is in when it is made; it stays there."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Route:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        """The first `MOST` of them; when there are more, nothing else can be asked of this socket."""
        return [_link(body) for body in self._ask(RTM_GETLINK, DUMP, LINK.pack(0, 0, 0, 0, 0))]

    def link(self, name: str) -> Link | None:
        wanted = LINK.pack(0, 0, 0, 0, 0) + _attribute(IFLA_IFNAME, name.encode() + b"\0")
        try:
            return next(map(_link, self._ask(RTM_GETLINK, ACK, wanted)), None)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None

    def addresses(self) -> list[Address]:
        return [
            found
            for body in self._ask(RTM_GETADDR, DUMP, ADDRESS.pack(0, 0, 0, 0, 0))
            if (found := _address(body)) is not None
        ]

    def change(self, index: int, *, up: bool | None = None, attributes: Mapping[int, bytes] | None = None) -> None:
        """Of a link: its state and attributes by IFLA_* number. Raises OSError."""
        flags, mask = (0, 0) if up is None else (IFF_UP if up else 0, IFF_UP)
        body = LINK.pack(0, 0, index, flags, mask) + b"".join(
            _attribute(kind, value) for kind, value in (attributes or {}).items()
        )
        self._ask(RTM_NEWLINK, ACK, body)

    def delete(self, index: int) -> None:
        self._ask(RTM_DELLINK, ACK, LINK.pack(0, 0, index, 0, 0))

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """The bodies of the answers. Raises OSError for an error of the kernel."""
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, self._sequence, 0) + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(BUFFER)
            at = 0
            while at < len(data):
                length, answer, _, _, _ = HEADER.unpack_from(data, at)
                body = data[at + HEADER.size : at + length]
                at += (length + 3) & ~3
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return found
                found.append(body)
                if len(found) >= MOST:
                    return found


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, body[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = LINK.unpack_from(body)
    found = {kind: value for kind, value in _attributes(body, LINK.size) if kind in SHOWN}
    name = found[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
    counters = COUNTERS.unpack_from(found[IFLA_STATS64]) if IFLA_STATS64 in found else (0,) * 8
    kind = dict(_attributes(found.get(IFLA_LINKINFO, b""), 0)).get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
    mtu = int.from_bytes(found.get(IFLA_MTU, b""), sys.byteorder)
    return Link(index, name, flags, mtu, found.get(IFLA_ADDRESS, b"").hex(":"), counters, kind)


def _address(body: bytes) -> Address | None:
    family, prefix, _, _, index = ADDRESS.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = {kind: value for kind, value in _attributes(body, ADDRESS.size) if kind in (IFA_ADDRESS, IFA_LOCAL)}
    raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if raw is None:
        return None
    return Address(index, "inet" if family == socket.AF_INET else "inet6", socket.inet_ntop(family, raw), prefix)
