"""A log in memory, with the same promises as the real one, on which a simulation can decide what goes wrong and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chassis.errors import Unavailable
from chassis.log import Message, Moved, Stored, Unknown

if TYPE_CHECKING:
    from chassis.events import Event


class Dead(BaseException):
    """The process that this connection belonged to was killed: nothing it does reaches the log any more."""


class MemoryLog:
    """Implements `chassis.log.Log`. `down()` and `rise()` are NATS being away.

    `unlucky()` is asked at each append: "" lets it be, "lost" loses the message, "unacknowledged" applies it and loses the answer.
    `delay()` gives the seconds that each way to the log and back takes.
    """

    def __init__(self, *, unlucky: Callable[[], str] = lambda: "", delay: Callable[[], float] = lambda: 0.0) -> None:
        self.unlucky = unlucky
        self.delay = delay
        self.messages: dict[str, Stored] = {}
        self.history: list[Stored] = []
        self.announced: list[Event] = []
        self.appends = 0
        self.sequence = 0
        self._up = asyncio.Event()
        self._up.set()
        self._followers: list[_Follower] = []

    @property
    def up(self) -> bool:
        return self._up.is_set()

    def down(self) -> None:
        self._up.clear()

    def rise(self) -> None:
        self._up.set()
        for follower in self._followers:
            follower.wake()

    async def when_up(self, timeout: float | None = None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    async def ready(self) -> None:
        self._need()

    async def append(self, messages: Sequence[Message]) -> int:
        self._need()
        self.appends += 1
        luck = self.unlucky()
        await asyncio.sleep(self.delay())
        if luck == "lost" or not self.up:
            raise Unknown("lost on the way there")
        sequence = self.apply(messages)
        await asyncio.sleep(self.delay())
        if luck == "unacknowledged" or not self.up:
            raise Unknown("lost on the way back")
        return sequence

    def apply(self, messages: Sequence[Message]) -> int:
        """All or nothing, at this moment."""
        for message in messages:
            if message.expect is not None and self._last_of(message.subject) != message.expect:
                raise Moved(message.subject)
        for message in messages:
            self.sequence += 1
            stored = Stored(message.subject, message.data, message.headers, self.sequence, time.time_ns())
            self.messages.pop(message.subject, None)
            self.messages[message.subject] = stored
            self.history.append(stored)
        for follower in self._followers:
            follower.wake()
        return self.sequence

    async def last(self, subject: str) -> Stored | None:
        self._need()
        await asyncio.sleep(self.delay())
        if subject.endswith(">"):
            return next((m for m in reversed(self.messages.values()) if m.subject.startswith(subject[:-1])), None)
        return self.messages.get(subject)

    async def announce(self, event: Event) -> None:
        self.announced.append(event)

    async def follow(
        self,
        pattern: str,
        after: int,
        deliver: Callable[[Stored], None],
        *,
        caught_up: Callable[[int], None],
        anew: Callable[[], None],
    ) -> _Follower:
        self._need()
        follower = _Follower(self, pattern, after, deliver, caught_up)
        self._followers.append(follower)
        follower.wake()
        return follower

    def after(self, sequence: int, prefix: str) -> list[Stored]:
        """What is kept beyond a sequence, in order."""
        newer: list[Stored] = []
        for stored in reversed(self.messages.values()):
            if stored.sequence <= sequence:
                break
            if stored.subject.startswith(prefix):
                newer.append(stored)
        newer.reverse()
        return newer

    def rows(self, kind: str) -> list[Stored]:
        """The rows of a kind that exist."""
        return [m for m in self.messages.values() if m.subject.startswith(f"row.{kind}.") and not m.deleted]

    def connect(self) -> Connection:
        """The log as one process sees it; the process can be killed."""
        return Connection(self)

    def forget(self, follower: _Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    def _last_of(self, subject: str) -> int:
        stored = self.messages.get(subject)
        return stored.sequence if stored else 0

    def _need(self) -> None:
        if not self.up:
            raise Unavailable("The message bus is away")


class Connection:
    """The log of one process. After `kill` nothing of the process reaches it; what was on its way may or may not have."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._dead = False
        self._followers: list[_Follower] = []

    def kill(self) -> None:
        self._dead = True
        for follower in self._followers:
            self._log.forget(follower)

    @property
    def up(self) -> bool:
        return self._log.up

    async def when_up(self, timeout: float | None = None) -> bool:
        self._alive()
        return await self._log.when_up(timeout)

    async def ready(self) -> None:
        await self._log.ready()

    async def append(self, messages: Sequence[Message]) -> int:
        self._alive()
        try:
            sequence = await self._log.append(messages)
        finally:
            self._alive()
        return sequence

    async def last(self, subject: str) -> Stored | None:
        self._alive()
        return await self._log.last(subject)

    async def announce(self, event: Event) -> None:
        self._alive()
        await self._log.announce(event)

    async def follow(
        self,
        pattern: str,
        after: int,
        deliver: Callable[[Stored], None],
        *,
        caught_up: Callable[[int], None],
        anew: Callable[[], None],
    ) -> _Follower:
        self._alive()
        follower = await self._log.follow(pattern, after, deliver, caught_up=caught_up, anew=anew)
        self._followers.append(follower)
        return follower

    def _alive(self) -> None:
        if self._dead:
            raise Dead


class _Follower:
    """Delivers on the loop, not within append."""

    def __init__(
        self,
        log: MemoryLog,
        pattern: str,
        after: int,
        deliver: Callable[[Stored], None],
        caught_up: Callable[[int], None],
    ) -> None:
        self._log = log
        self._prefix = pattern.removesuffix(">")
        self._after = after
        self._deliver = deliver
        self._caught_up = caught_up
        self._scheduled = False
        self._stopped = False

    def wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(self._log.delay(), self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if not self._log.up or self not in self._log._followers:
            return
        for stored in self._log.after(self._after, self._prefix):
            self._after = stored.sequence
            self._deliver(stored)
        self._caught_up(self._log.sequence)

    async def stop(self) -> None:
        self._log.forget(self)
