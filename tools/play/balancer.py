"""Stands for the gateway's Service: one address, new connections go round its endpoints, open ones are left alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

PIECE = 65536
PERIOD = 0.2  # seconds between two looks at readiness


@dataclass(frozen=True)
class Member:
    """A pod as its probe found it. `condition` is "ready", "unready" or "dead" (nothing answers)."""

    address: str
    condition: str


@dataclass
class Endpoints:
    """Which pods get new connections, as the kubelet decides it from the readiness probe.

    A ready pod is in at once, a dead one out at once; one that answers "not ready" stays in for `patience` seconds, which is what
    the probe's periodSeconds times failureThreshold come to.
    """

    patience: float
    clock: Callable[[], float] = time.monotonic
    _ready_at: dict[str, float] = field(default_factory=dict)

    def of(self, members: Iterable[Member]) -> list[str]:
        now = self.clock()
        found = {member.address: member.condition for member in members}
        self._ready_at = {address: at for address, at in self._ready_at.items() if found.get(address, "dead") != "dead"}
        self._ready_at.update({address: now for address, condition in found.items() if condition == "ready"})
        return [address for address in found if now - self._ready_at.get(address, -self.patience) < self.patience]


@dataclass
class Balancer:
    """Listens on `address` on a thread of its own. `backends` gives the endpoints of that moment."""

    address: tuple[str, int]
    backends: Callable[[], list[str]]
    port: int
    _found: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _turn: itertools.count[int] = field(default_factory=itertools.count)
    _loop: asyncio.AbstractEventLoop | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._found = self.backends()
        self._loop, started = asyncio.new_event_loop(), threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, daemon=True),
            threading.Thread(target=self._run, args=(self._loop, started), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if not started.wait(10):
            raise RuntimeError(f"cannot listen on {self.address}")

    def _run(self, loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(self._serve, *self.address))
        started.set()
        loop.run_forever()
        server.close()
        for task in (tasks := asyncio.all_tasks(loop)):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0.1))  # in which the connections are let go of
        loop.close()

    def _watch(self) -> None:
        """Follows readiness beside the loop, as the endpoints of a Service follow it."""
        while not self._ended.wait(PERIOD):
            self._found = self.backends()

    def stop(self) -> None:
        self._ended.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            backend = await self._connect()
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pipe(reader, backend[1]), _pipe(backend[0], writer))
        except asyncio.CancelledError:  # the balancer stops
            for end in (writer, backend[1]):
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The first of the endpoints, in turn, that accepts."""
        found = self._found
        begin = next(self._turn)
        for offset in range(len(found)):
            with suppress(OSError):
                return await asyncio.open_connection(found[(begin + offset) % len(found)], self.port)
        raise OSError("the Service has no endpoint")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
