"""The supervisor of one server: everything it starts, the signals it obeys, and its control socket.

SIGTERM and SIGINT end the parts and leave instances running; SIGPWR first stops the instances in their order. If the supervisor itself
is killed, the kernel ends its children.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor import directory as folder
from supervisor.child import Supervised
from supervisor.parts import BUS, GATEWAY, PARTS, ROOT, USER, Surroundings, launch_of
from supervisor.warm import Warmth, warm_up

PATIENCE = 20.0  # seconds that a part may take to end
STOP_ALL = 3600.0  # seconds that all instances together may take to stop; each has its own boot.host_shutdown_timeout
TRIM_EVERY = 60.0  # seconds between looks at the size of the logs


@dataclass
class Supervisor:
    """Starts everything in `directory` and runs until a signal or a request ends it."""

    directory: Path
    group: str | None = None
    children: dict[str, Supervised] = field(default_factory=dict)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    shutting_down: bool = False
    url: str = ""
    warmth: Warmth | None = None
    started_at: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line in the foreground's output and in D/log/supervisor.log."""
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n"
        with (self.directory / "log" / "supervisor.log").open("a") as log:
            log.write(line)
        sys.stderr.write(line)
        sys.stderr.flush()

    async def run(self) -> None:
        """From start to end. Raises directory.Taken when another supervisor runs there."""
        folder.prepare(self.directory)
        lock = folder.hold(self.directory)
        try:
            await self._run()
        finally:
            os.close(lock)

    async def _run(self) -> None:
        around = self._surroundings()
        self._obey_signals()
        control = await self._open_control()
        tasks = [self._start(BUS, around)]
        await asyncio.sleep(0)  # the bus comes up on another core while the libraries are loaded here
        self.warmth = warm_up(ROOT)
        tasks += [self._start(name, around) for name in PARTS]
        trimming = asyncio.create_task(self._trim_logs())
        self.say(f"nubibus serves in {self.directory}")
        await self.leaving.wait()
        if self.shutting_down:
            await self._stop_instances()
        await self._end_parts()
        trimming.cancel()
        control.close()
        await asyncio.gather(*tasks)
        (self.directory / "unix.socket").unlink(missing_ok=True)
        (self.directory / "run" / "supervisor.sock").unlink(missing_ok=True)
        self.say("nubibus has ended")

    def _surroundings(self) -> Surroundings:
        from chassis import natsd
        from supervisor import identity

        identity.ensure(self.directory)
        bus = natsd.prepare(self.directory)
        self.url = bus.url
        listener = folder.listen(self.directory, self.group).detach()
        user = USER if os.geteuid() == 0 and folder.has_user(USER) else None
        if user is None:
            self.say(f"there is no user {USER}: the gateway runs as uid {os.geteuid()} (tools/setup makes the user)")
        return Surroundings(self.directory, tuple(bus.argv), bus.url, listener, user)

    def _start(self, name: str, around: Surroundings) -> asyncio.Task[None]:
        self.children[name] = Supervised(name, launch_of(name, around), self.say, self.warmth)
        return asyncio.create_task(self.children[name].run(), name=name)

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leaving.set)
        loop.add_signal_handler(signal.SIGPWR, self._shut_down)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)

    def _shut_down(self) -> None:
        self.shutting_down = True
        self.leaving.set()

    async def _end_parts(self) -> None:
        """The parts together; then the gateway, whose listeners hear of what they did last; the bus when none needs it any more."""
        first = [child for name, child in self.children.items() if name not in (BUS, GATEWAY)]
        await asyncio.gather(*(child.stop(PATIENCE) for child in first))
        for name in (GATEWAY, BUS):
            await self.children[name].stop(PATIENCE)

    async def _stop_instances(self) -> None:
        """Ask instances to stop everything in order. A failure is said and does not keep the server from ending."""
        from supervisor.farewell import stop_all

        self.say("stopping the instances")
        try:
            for line in await stop_all(self.directory, self.url, STOP_ALL):
                self.say(line)
        except Exception as error:
            self.say(f"the instances could not be stopped in order: {error}")

    async def _trim_logs(self) -> None:
        while True:
            folder.trim_logs(self.directory)
            await asyncio.sleep(TRIM_EVERY)

    async def _open_control(self) -> asyncio.Server:
        path = self.directory / "run" / "supervisor.sock"
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path)
        path.chmod(0o600)
        return server

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One JSON line {"do": "status" | "restart" | "stop" | "shutdown", "part": …}, one JSON line back."""
        try:
            request = json.loads(await reader.readline())
            handler: Callable[[str], Awaitable[Any]] = {
                "status": self._status, "restart": self._restart, "stop": self._leave, "shutdown": self._leave_shut_down,
            }[request["do"]]  # fmt: skip
            answer = await handler(request.get("part", ""))
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"not understood: {error}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def _status(self, _part: str) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "seconds": time.monotonic() - self.started_at,
            "parts": [child.status() for child in self.children.values()],
        }

    async def _restart(self, part: str) -> dict[str, Any]:
        self.children[part].kill(signal.SIGTERM)
        return {}

    async def _leave(self, _part: str) -> dict[str, Any]:
        self.leaving.set()
        return {}

    async def _leave_shut_down(self, _part: str) -> dict[str, Any]:
        self._shut_down()
        return {}
