"""Who is at the other end of a connection: the facts that a socket gives, before anything is trusted."""

from __future__ import annotations

import base64
import pwd
import socket
import struct
import time
from asyncio import Transport
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from chassis.calls import Caller

CREDENTIALS = struct.Struct("3i")
REMEMBERED = 10.0  # seconds that the name of a user is taken for granted


@dataclass
class Peer:
    """One connection. `uid` is None for TLS; `fingerprint` is empty when the client showed no certificate."""

    uid: int | None = None
    address: str = ""
    certificate: bytes = b""
    fingerprint: str = ""
    only_metrics: bool = False  # came to core.metrics_address
    known: tuple[tuple[int, ...], Caller] | None = field(default=None, repr=False)  # what `auth` found, and its basis

    @cached_property
    def username(self) -> str:
        """Name of the unix user, its number if it has none."""
        return self.fingerprint if self.uid is None else _name_of(self.uid, int(time.monotonic() / REMEMBERED))

    @cached_property
    def certificate_text(self) -> str:
        """Base64 of the DER form, as LXD's API has certificates."""
        return base64.b64encode(self.certificate).decode()


def peer_of(transport: Transport, address: str = "") -> Peer:
    """Facts of an accepted connection. `address` is the client's if a trusted proxy told it."""
    tls: Any = transport.get_extra_info("ssl_object")
    if tls is not None:
        return Peer(
            address=address or _address(transport.get_extra_info("peername")),
            certificate=tls.certificate,
            fingerprint=tls.fingerprint,
        )
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return Peer(address=_address(transport.get_extra_info("peername")))
    _pid, uid, _gid = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return Peer(uid=uid, address="@")


@lru_cache(256)
def _name_of(uid: int, _period: int) -> str:
    """Reads the users' file, so a name is remembered for a while."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _address(name: Any) -> str:
    """ "10.0.0.1:4711" or "[::1]:4711"."""
    if not isinstance(name, tuple):
        return ""
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
