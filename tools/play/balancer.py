"""Stands for the gateway's Service: one address, new connections go round the ready pods, open ones are left alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

PIECE = 65536
PERIOD = 0.2  # seconds between two looks at readiness


@dataclass
class Balancer:
    """Listens on `address` on a thread of its own. `backends` gives the addresses of the ready pods at that moment."""

    address: tuple[str, int]
    backends: Callable[[], list[str]]
    port: int
    _ready: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _turn: itertools.count[int] = field(default_factory=itertools.count)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> None:
        self._ready = self.backends()
        threading.Thread(target=self._watch, daemon=True).start()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, *self.address))
        started.set()
        self._loop.run_forever()

    def _watch(self) -> None:
        """Follows readiness beside the loop, as the endpoints of a Service follow it."""
        while not self._ended.wait(PERIOD):
            self._ready = self.backends()

    def stop(self) -> None:
        self._ended.set()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            backend = await self._connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pipe(reader, backend[1]), _pipe(backend[0], writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The first of the ready pods, in turn, that accepts."""
        ready = self._ready
        begin = next(self._turn)
        for offset in range(len(ready)):
            with suppress(OSError):
                return await asyncio.open_connection(ready[(begin + offset) % len(ready)], self.port)
        raise OSError("no gateway is ready")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
