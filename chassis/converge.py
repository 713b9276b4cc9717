"""Tasks without input that make the host be what the log says, woken by a signal and by a timer.

    keeper = Converge("networks", establish, every=60.0)      # `async def establish() -> None`, looks up what is and what should be
    keeper.wake()                                             # something changed: run soon; many wakes make one run
    await keeper.run()                                        # as a task of the service (part.keep)

What always holds: never two runs of one task at once; a wake during a run leads to another run after it; a run that fails is logged,
counted and tried again, sooner at first, later at the latest at the next tick of the timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from chassis.errors import Fault

log = structlog.get_logger(__name__)

SOONEST = 0.5


class Converge:
    """One converging task. `settle` seconds pass between a wake and its run, so that a burst of wakes is one run."""

    def __init__(
        self, name: str, establish: Callable[[], Awaitable[None]], *, every: float = 60.0, settle: float = 0.0
    ) -> None:
        self.name = name
        self.runs = 0
        self.failures = 0
        self._establish = establish
        self._every = every
        self._settle = settle
        self._woken = asyncio.Event()
        self._asked = 0
        self._done = 0
        self._finished = asyncio.Condition()

    def wake(self) -> None:
        """Something changed: run soon."""
        self._asked += 1
        self._woken.set()

    async def settled(self, timeout: float = 30.0) -> bool:
        """Ask for a run and wait until one that began after this has succeeded; false after `timeout` seconds."""
        self.wake()
        wanted = self._asked
        try:
            async with asyncio.timeout(timeout), self._finished:
                await self._finished.wait_for(lambda: self._done >= wanted)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Once at the beginning, then at each wake and tick, for ever."""
        pause = SOONEST
        while True:
            if await self._once():
                pause, wait = SOONEST, self._every
            else:
                wait = pause
                pause = min(pause * 2, self._every)
            await self._until_woken(wait)

    async def _once(self) -> bool:
        self._woken.clear()
        asked = self._asked
        self.runs += 1
        try:
            await self._establish()
        except Exception as e:
            self.failures += 1
            unforeseen = None if isinstance(e, Fault) else e
            log.error("A converging task failed", task=self.name, error=str(e), exc_info=unforeseen)
            return False
        async with self._finished:
            self._done = asked
            self._finished.notify_all()
        return True

    async def _until_woken(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        if self._settle:
            await asyncio.sleep(self._settle)
