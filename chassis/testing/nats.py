"""A private nats-server for tests: its own directory, its own port, ended with the test.

`async with NatsServer(tmp_path) as server: bus = await server.connect()`. It can be killed, paused and started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from types import TracebackType

from chassis import natsd
from chassis.bus import Bus
from chassis.store import Store


class NatsServer:
    """One nats-server process in a directory; a temporary one if none is given."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="nubibus-nats-") if directory is None else None
        self.directory = Path(self._own.name if self._own else str(directory))
        self._process: asyncio.subprocess.Process | None = None
        self._buses: list[Bus] = []

    async def __aenter__(self) -> NatsServer:
        await self.start()
        async with asyncio.timeout(30):
            bus = await self.connect("set-up")
            await bus.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bus in self._buses:
            await bus.close()
        await self.stop()
        if self._own:
            self._own.cleanup()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._server = natsd.prepare(self.directory)
        with open(self.directory / "nats.log", "ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._server.argv, stdout=out, stderr=out, start_new_session=True
            )

    def _address(self) -> str:
        return self._server.url

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def connect(self, name: str = "test") -> Bus:
        """A connection that is closed with the server."""
        bus = Bus(self._address, name)
        await bus.connect(timeout=20)
        self._buses.append(bus)
        return bus

    async def store(self, service: str = "test") -> Store:
        """A store on a connection of its own; not started."""
        return Store(await self.connect(service), service)

    async def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
