"""nats-server writes nothing more after its disk was full, until it starts anew: it is started anew when there is room again.

The supervisor does it, asked over its socket. Where there is none (Kubernetes), the pod's own probes are for that.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import structlog

ROOM = 4 * 1024 * 1024  # bytes that must be free
TAIL = 8192  # bytes of the server's log
SIGNS = (b"failed to store a msg", b"ritical write error")
AGAIN = 10.0  # seconds until it is asked once more
_RESTART = b'{"do": "restart", "part": "nats"}\n'
log = structlog.get_logger(__name__)


class Remedy:
    """Called whenever the log has refused to write, or has not acknowledged in time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._asked = 0.0
        self._asking: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        if time.monotonic() - self._asked < AGAIN or not (self._has_room() and self._has_failed()):
            return
        self._asked = time.monotonic()
        self._asking = asyncio.get_running_loop().create_task(self._ask(), name="restart nats-server")

    def _has_room(self) -> bool:
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return False
        return found.f_bavail * found.f_frsize > ROOM

    def _has_failed(self) -> bool:
        """Whether the server has told in its log that it cannot write, not long ago."""
        try:
            with (self._directory / "log" / "nats.log").open("rb") as told:
                told.seek(max(0, told.seek(0, os.SEEK_END) - TAIL))
                end = told.read()
            return any(sign in end for sign in SIGNS)
        except OSError:
            return False

    async def _ask(self) -> None:
        log.warning("The log cannot write though there is room: nats-server is started anew")
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_unix_connection(self._directory / "run" / "supervisor.sock")
                writer.write(_RESTART)
                await writer.drain()
                writer.close()
