"""What a part cannot work without, and what it says while something of that is missing.

A part that lacks something does not end: it stays up, says once in its log and all the time in /readyz what is missing and what to do,
looks again, and goes on when it is there. `need` is for what is looked at (a directory, a certificate, a feature of the kernel), `tell`
for what comes by itself (the bus).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

AGAIN = 1.0  # seconds between two looks while something is missing
EVERY = 10.0  # seconds between two looks while nothing is
Look = Callable[[], str]  # what is missing and what to do, or "" if nothing; takes a moment at most
log = structlog.get_logger(__name__)


class Readiness:
    """The reasons why a part is not ready; none means that it is."""

    def __init__(self) -> None:
        self._looks: dict[str, Look] = {}
        self._lacks: dict[str, str] = {}

    def need(self, name: str, look: Look) -> None:
        self._looks[name] = look

    def tell(self, name: str, lack: str) -> None:
        """`lack` says what is missing; "" that it is there. Only a change is logged."""
        before = self._lacks.get(name, "")
        if lack == before:
            return
        if lack:
            self._lacks[name] = lack
            log.error("not ready", lacks=name, reason=lack)
        else:
            del self._lacks[name]
            log.info("there again", what=name)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self._lacks.values())

    def look(self) -> None:
        """On the loop's own thread: a part may not have another one yet."""
        for name, look in self._looks.items():
            self.tell(name, look())

    async def met(self) -> None:
        """Returns when nothing is missing that can be looked at."""
        while True:
            self.look()
            if not any(name in self._lacks for name in self._looks):
                return
            await asyncio.sleep(AGAIN)

    async def keep(self) -> None:
        """Goes on looking for the life of the part: a certificate expires, a mount goes."""
        while True:
            await asyncio.sleep(AGAIN if self._lacks else EVERY)
            self.look()
