"""The PROXY protocol before TLS: whom a trusted proxy speaks for; nobody else is believed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

import pytest

from chassis.listening import split
from services.gateway import proxy
from tests.unit.gateway.test_trust import configure, free_port, listening, trust, writer_of
from tests.unit.gateway.world import Identity, World, make_identity, tls

V1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n"
V2 = proxy.SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 12, bytes([192, 0, 2, 2]), bytes(4), 4712, 443)
V2_6 = proxy.SIGNATURE + b"\x21\x21" + struct.pack("!H16s16sHH", 36, b"\xfd" + bytes(14) + b"\x01", bytes(16), 9, 443)
LOCAL = proxy.SIGNATURE + b"\x20\x00\x00\x00"


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        (V1, "192.0.2.1:4711"),
        (b"PROXY TCP6 fd00::1 fd00::2 1 2\r\n", "[fd00::1]:1"),
        (b"PROXY UNKNOWN\r\n", ""),
        (V2, "192.0.2.2:4712"),
        (V2_6, "[fd00::1]:9"),
        (LOCAL, ""),
        (b"\x16\x03\x01", ""),
    ],
)
async def test_headers(sent: bytes, address: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(sent + b"\x16rest")
        assert await proxy.client_of(ours) == address
        left = ours.recv(100)
        assert left == (sent if sent[0] == 0x16 else b"") + b"\x16rest"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 1.2.3.4 10.0.0.1 99999 443\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"P" * 200,
        proxy.SIGNATURE + b"\x11\x11\x00\x0c",
        proxy.SIGNATURE + b"\x21\x11\xff\xff",
        proxy.SIGNATURE + b"\x21\x11\x00\x02ab",
    ],
)
async def test_malformed(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(proxy.Malformed):
            await proxy.client_of(ours)


def line_of(size: int) -> bytes:
    """A header of version 1 with this many bytes."""
    return b"PROXY UNKNOWN ".ljust(size - 2, b"x") + b"\r\n"


def extended_to(length: int) -> bytes:
    """A header of version 2 whose addresses and extensions have this many bytes."""
    return V2[:14] + struct.pack("!H", length) + V2[16:].ljust(length, b"\0")


async def test_a_header_is_at_most_as_long_as_it_may_be() -> None:
    for sent, address in ((line_of(107), ""), (extended_to(4096), "192.0.2.2:4712")):
        assert await read(sent) == address
    for sent in (line_of(108), extended_to(4097)):
        with pytest.raises(proxy.Malformed):
            await read(sent)


async def read(sent: bytes) -> str:
    """What is found before a handshake."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(sent + b"\x16rest")
        return await proxy.client_of(ours)


async def ask(port: int, head: bytes, who: Identity) -> bytes:
    """One request behind a header, on a blocking socket in a thread."""

    def run() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(head)
            with tls(who).wrap_socket(sock) as secure:
                secure.sendall(b"GET /1.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                found = b""
                while piece := secure.recv(65536):
                    found += piece
                return found

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("head", [V1, V2])
async def test_a_trusted_proxy(world: World, head: bytes) -> None:
    store, port, me = await writer_of(world), free_port(), make_identity(world.directory, "me")
    await trust(store, me)
    await configure(store, core__https_address=f"127.0.0.1:{port}")
    await listening(port)
    with pytest.raises((ssl.SSLError, OSError)):
        await ask(port, head, me)  # nobody is trusted to speak for others yet
    await configure(store, core__https_address=f"127.0.0.1:{port}", core__https_trusted_proxy="10.9.9.9, 127.0.0.1")
    await world.gateway.store.refresh()
    assert b"200 OK" in await ask(port, head, me)
    assert world.server.calls[-1].caller.address.startswith("192.0.2.")
    assert b"200 OK" in await ask(port, b"", me)
    assert world.server.calls[-1].caller.address.startswith("127.0.0.1:")
    await store.stop()


def test_addresses() -> None:
    assert split("[::]:8443") == ("", 8443)
    assert split("::") == ("", 8443)
    assert split("[fd00::1]:1") == ("fd00::1", 1)
    assert split("fd00::1") == ("fd00::1", 8443)
    assert split(":8443") == ("", 8443)
    assert split("10.0.0.1") == ("10.0.0.1", 8443)
    assert split("10.0.0.1:99") == ("10.0.0.1", 99)
    assert split("*:https") == ("", 443)
    for wrong in ("1.2.3.4:nosuchport", "[::]:x", ":-1"):
        with pytest.raises(ValueError):
            split(wrong)
