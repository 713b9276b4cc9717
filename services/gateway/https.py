"""One HTTPS listener: it accepts, asks a trusted proxy for whom it speaks, and hands the connection to TLS and HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog

from chassis.listening import split
from services.gateway import proxy
from services.gateway.tls import AskingContext

BACKLOG = 1024
HANDSHAKE = 15.0  # seconds
PAUSE = 0.05  # seconds after a connection that could not be accepted
log = structlog.get_logger()

MakeConnection = Callable[[str], asyncio.Protocol]  # of the client's address, "" for that of the socket


class HttpsListener:
    """Listens on one address until `close`; connections that were accepted stay, also those that have not yet shown who they are."""

    only_metrics = False

    def __init__(self, context: AskingContext, make: MakeConnection, proxies: Callable[[], frozenset[str]]) -> None:
        self.context = context
        self.make = make
        self.proxies = proxies
        self.sockets: list[socket.socket] = []
        self.beginning: set[asyncio.Task[None]] = set()

    async def open(self, address: str) -> None:
        """Raises OSError or ValueError if it cannot."""
        host, port = split(address)
        loop = asyncio.get_running_loop()
        flags = socket.AI_PASSIVE
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        try:
            for family, _, _, _, name in found:
                self.sockets.append(_listen(family, name))
        except OSError:
            self.close()
            raise
        for sock in self.sockets:
            loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self.sockets:
            loop.remove_reader(sock)
            sock.close()
        self.sockets.clear()

    def _accept(self, sock: socket.socket) -> None:
        """Somebody waits. Not by `loop.sock_accept`, which loses a connection that came as its caller was cancelled."""
        try:
            connection, name = sock.accept()
        except BlockingIOError:
            return
        except OSError as error:  # of the connection that just went, or too many files are open
            log.warning("cannot accept", error=str(error))
            loop = asyncio.get_running_loop()
            loop.remove_reader(sock)
            loop.call_later(PAUSE, self._accept_again, sock)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        task = asyncio.create_task(self._serve(connection, name[0]), name="begin of a connection")
        self.beginning.add(task)
        task.add_done_callback(self.beginning.discard)

    def _accept_again(self, sock: socket.socket) -> None:
        if sock in self.sockets:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    async def _serve(self, connection: socket.socket, host: str) -> None:
        try:
            address = ""
            if host.removeprefix("::ffff:") in self.proxies():
                address = await proxy.client_of(connection)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self.make(address), connection, ssl=self.context, ssl_handshake_timeout=HANDSHAKE
            )
        except (proxy.Malformed, OSError, TimeoutError) as error:  # ssl's errors are OSErrors
            log.debug("a connection came to nothing", peer=host, error=str(error))
            with suppress(OSError):
                connection.close()
        except asyncio.CancelledError:  # the gateway ends
            connection.close()
            raise


def _listen(family: int, name: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(name)  # type: ignore[arg-type]  # what getaddrinfo gave
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
