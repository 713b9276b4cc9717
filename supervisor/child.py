"""One supervised process: started, watched, started again with growing pauses, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.launch import Child, Launch, start
from supervisor.warm import Warmth

FIRST_PAUSE = 0.05  # seconds before the first restart
LONGEST_PAUSE = 10.0
SETTLED = 2.0  # seconds of life after which the next death counts as the first again

Say = Callable[[str], None]


@dataclass
class Supervised:
    """A process that is kept alive until `stop`. `wanted` is the one switch; the task of `run` obeys it."""

    name: str
    launch: Launch
    say: Say
    warmth: Warmth | None = None
    wanted: bool = True
    child: Child | None = None
    started_at: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Returns when it has been stopped."""
        pause = FIRST_PAUSE
        while self.wanted:
            await self._live()
            if not self.wanted:
                break
            if time.monotonic() - self.started_at > SETTLED:
                pause = FIRST_PAUSE
            self.restarts += 1
            self.say(f"{self.name} {self.last_exit}; starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        self.ended.set()

    async def _live(self) -> None:
        """From start to death."""
        self.woken.clear()
        self.child = start(self.launch, self.warmth)
        self.started_at = time.monotonic()
        await readable(self.child.pidfd)
        _pid, status = os.waitpid(self.child.pid, 0)
        os.close(self.child.pidfd)
        self.child = None
        self.last_exit = _describe(os.waitstatus_to_exitcode(status))

    def kill(self, number: signal.Signals) -> None:
        """Signal the process if there is one."""
        if self.child is not None:
            signal.pidfd_send_signal(self.child.pidfd, number)

    async def stop(self, patience: float) -> None:
        """End it: SIGTERM, and SIGKILL after `patience` seconds."""
        self.wanted = False
        self.woken.set()
        self.kill(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended.wait(), patience)
        except TimeoutError:
            self.say(f"{self.name} did not end within {patience:g} s; killing it")
            self.kill(signal.SIGKILL)
            await self.ended.wait()

    def status(self) -> dict[str, object]:
        """For `nubibus status`: pid (0 when it does not run), seconds since its start, restarts, the last exit."""
        running = self.child is not None
        return {
            "name": self.name,
            "pid": self.child.pid if self.child else 0,
            "seconds": round(time.monotonic() - self.started_at, 1) if running else 0.0,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
        }


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    found = asyncio.Event()
    loop.add_reader(fd, found.set)
    try:
        await found.wait()
    finally:
        loop.remove_reader(fd)


def _describe(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"exited with code {code}"
