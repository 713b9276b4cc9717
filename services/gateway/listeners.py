"""Sockets that clients connect to: the unix socket, and HTTPS on addresses that may change while connections
live.

uvicorn's protocols speak HTTP and websockets; here they learn who is at the other end, and that headers have
a limit. Closing a listener stops accepting; what is connected stays.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from services.gateway.https import BACKLOG, HttpsListener
from services.gateway.peers import peer_of
from services.gateway.tls import AskingContext, Files

HEADERS = 1024 * 1024  # bytes of a request's head, as Go's default
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
PATIENCE = 60  # seconds that the head of a request may take
LINGER = 2  # seconds that a client which was refused has to read why
IDLE = 120  # seconds that a connection may be unused
LISTENING = 3  # number of the first descriptor that a supervisor passes
log = structlog.get_logger()


class Connection(HttpToolsProtocol):
    """One connection. `app_state` becomes the `state` of each request's scope."""

    head = 0  # bytes of the head that is arriving
    arriving = True
    refused = False
    impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = peer_of(transport, self.app_state.get("address", ""))
        peer.only_metrics = self.app_state.get("only_metrics", False)
        self.app_state = {"peer": peer}
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.arriving:
            if self.impatience is None:
                self._expect_head()
            self.head += len(data)
            if self.head > HEADERS:
                self._refuse_head()
                return
        super().data_received(data)

    def _refuse_head(self) -> None:
        """Refuse it once; the rest is read and dropped, for a client that still writes would not see the answer."""
        if not self.refused:
            self.refused = True
            self.transport.write(TOO_LARGE)
            self.loop.call_later(LINGER, self.transport.close)

    def on_headers_complete(self) -> None:
        self.arriving = False
        self._head_is_here()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.arriving, self.head = True, 0

    def _expect_head(self) -> None:
        """A client that has begun has so long to send a whole head; between requests the idle limit is uvicorn's."""
        self.impatience = self.loop.call_later(PATIENCE, self.transport.close)

    def _head_is_here(self) -> None:
        if self.impatience is not None:
            self.impatience.cancel()
            self.impatience = None


class Listeners:
    """All listening sockets of the gateway, and the connections that came through them."""

    def __init__(self, app: Any, files: Files, proxies: Callable[[], frozenset[str]] = frozenset) -> None:
        self.config = Config(
            app,
            ws=WebSocketsSansIOProtocol,
            http=Connection,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws_max_size=16 * 1024 * 1024,
            ws_ping_interval=30.0,
            ws_ping_timeout=None,  # a client that does not read (exec's control socket) never answers a ping
            ws_per_message_deflate=False,
            timeout_keep_alive=IDLE,
            proxy_headers=False,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # App tells of failures itself
        self.config.load()
        self.state = ServerState()
        self.files = files
        self.tls: AskingContext | None = None
        self.unix: list[asyncio.AbstractServer] = []
        self.https: dict[str, HttpsListener] = {}
        self.proxies = proxies

    def connection(self, address: str = "", *, only_metrics: bool = False) -> Connection:
        """The protocol of an accepted connection; `address` is the client's if a proxy told it."""
        return Connection(self.config, self.state, {"address": address, "only_metrics": only_metrics})

    async def open_unix(self, path: Path, group: str) -> None:
        """Listen on the socket that the supervisor passed, else bind `path` for `group`, mode 0660."""
        loop = asyncio.get_running_loop()
        given = os.environ.get("NUBIBUS_UNIX_FD")
        sock = socket.socket(fileno=int(given)) if given else _bind(path, group)
        sock.setblocking(False)
        self.unix.append(await loop.create_unix_server(self.connection, sock=sock, backlog=BACKLOG))

    async def listen_https(self, wanted: Mapping[str, bool]) -> None:
        """Listen on exactly these addresses ("host:port", ":8443"), on some for metrics alone.

        What cannot be bound is logged and tried again later.
        """
        for address, listener in list(self.https.items()):
            if wanted.get(address) is not listener.only_metrics:
                self.https.pop(address).close()
                log.info("stopped listening", address=address)
        for address in wanted.keys() - self.https.keys():
            try:
                self.https[address] = await self._open_https(address, wanted[address])
                log.info("listening", address=address)
            except Exception as error:  # of the socket, or of a certificate that is none
                log.warning("cannot listen", address=address, error=str(error))

    async def _open_https(self, address: str, only_metrics: bool) -> HttpsListener:
        if self.tls is None:
            self.tls = AskingContext(self.files)
        listener = HttpsListener(self.tls, partial(self.connection, only_metrics=only_metrics), self.proxies)
        listener.only_metrics = only_metrics
        await listener.open(address)
        return listener

    def reload_certificate(self) -> None:
        """Use the certificate that lies on disk now, if it changed."""
        if self.tls is None:
            return
        try:
            if self.tls.reload():
                log.info("took the new server certificate")
        except Exception as error:
            log.warning("the server certificate cannot be read", error=str(error))

    async def keep_date(self) -> None:
        """The Date header, once a second."""
        while True:
            self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(1)

    async def drain(self, seconds: float) -> None:
        """Accept nothing new, let requests that run finish, then end what is left."""
        for server in self.unix:
            server.close()
        for listener in self.https.values():
            listener.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=seconds)
        for connection in list(self.state.connections):
            with suppress(Exception):
                connection.transport.close()


def _bind(path: Path, group: str) -> socket.socket:
    """A bound unix socket in place of what a dead gateway may have left."""
    with suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(mask)
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    path.chmod(0o660)
    return sock
