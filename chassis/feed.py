"""Events for listeners: one reader of the log a process, any number of listeners, each at its own pace.

    feed = Feed(bus); await feed.start()
    async with feed.listen(types={"lifecycle"}, project="default", since=4711) as listener:
        async for heard in listener: ...

What always holds: kept events come in the order of the log, none missing, none twice, also across reconnects of NATS. A listener that
lags is cut off after `bound` events and never slows another. With `since` it first reads what the log keeps beyond that sequence, page
by page, then goes over to what comes. Log lines and progress ticks are passed on as they come; a tick of an ended operation is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

import msgspec
import nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.bus import Bus
from chassis.change import EVENTS_TTL
from chassis.clock import nanoseconds
from chassis.errors import BadRequest, Gone, Unavailable
from chassis.events import EVENTS, LIVE
from chassis.kinds import unescape
from chassis.log import HEADER_BACK, Following, Stored
from chassis.stream import TRIMMED

BOUND = 20_000
PAGE = 256
_REMEMBERED = 4096

FLUSH = 0.005  # seconds between two looks


class Heard(NamedTuple):
    """One event. `sequence` is 0 for what is not kept; `revision` is that of the last row of the change it tells of."""

    sequence: int
    type: str
    project: str
    data: bytes
    revision: int

    def json(self, *, sequenced: bool = True) -> bytes:
        """The event as JSON; its sequence as an additive field if it has one."""
        if not sequenced or not self.sequence:
            return self.data
        return self.data[:-1] + b',"sequence":%d}' % self.sequence


class Feed:
    """See the module. `revision` is the newest row revision that an event told of."""

    def __init__(self, bus: Bus, *, bound: int = BOUND, retention: Callable[[], int] = lambda: EVENTS_TTL) -> None:
        self.bus = bus
        self.bound = bound
        self.retention = retention
        self.revision = 0
        self.last = 0
        self._listeners: set[Listener] = set()
        self._following: Following | None = None
        self._live: Subscription | None = None
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._ended_ids: set[str] = set()

    async def start(self) -> None:
        """From now on; returns when it listens."""
        await self.bus.ready()
        self.last = int((await self.bus.stream())["state"]["last_seq"])
        caught_up = asyncio.Event()
        self._following = await self.bus.follow(
            EVENTS, self.last, self._kept, caught_up=lambda _: caught_up.set(), anew=self._anew
        )
        await caught_up.wait()
        self._live = await self.bus.hear(LIVE, self._told)
        # The server must know of it before anybody is told that we listen.
        try:
            await self.bus.nats.flush()
        except nats.errors.Error as e:
            raise Unavailable(f"The message bus is away: {e}") from e

    async def flush(self, seconds: float = 2.0) -> None:
        """Wait until the listeners have taken what the log holds at this moment, at most `seconds`; before an orderly end."""
        with suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(seconds):
                newest = await self.bus.last(EVENTS)
                while newest is not None and self.last < newest.sequence:
                    await asyncio.sleep(FLUSH)
                while any(listener.behind for listener in self._listeners):
                    await asyncio.sleep(FLUSH)

    async def stop(self) -> None:
        for listener in list(self._listeners):
            listener.close()
        if self._following is not None:
            await self._following.stop()
        if self._live is not None and self.bus.up:
            await self._live.unsubscribe()

    def listen(self, types: Iterable[str] = (), *, project: str | None = None, since: int | None = None) -> Listener:
        """A listener; `project` None means all of them, no types means all of them. See `check_since` for `since`."""
        return Listener(self, frozenset(types), project, since)

    async def check_since(self, since: int) -> None:
        """Whether everything beyond a sequence can still be read: BadRequest for one in the future, Gone for one too old."""
        newest, created, trimmed = await self._extent()
        if not 0 <= since <= newest:
            raise BadRequest(f"Invalid since {since}: sequences go from 0 to {newest}")
        oldest = await self.bus.fetch({"seq": 1, "next_by_subj": EVENTS})
        complete = since == newest or (oldest is not None and since >= oldest.sequence - 1)
        # Before the oldest event there may have been others, unless none can have ended its time yet.
        aged = created + self.retention() * 1_000_000_000 <= time.time_ns()
        if since < trimmed or (aged and not complete):
            kept = oldest.sequence if oldest is not None else newest + 1
            raise Gone(f"Events since {since} are not kept any more: the oldest is {kept}")

    async def _extent(self) -> tuple[int, int, int]:
        """The newest sequence, when the log was made (nanoseconds since 1970), and up to which sequence events were dropped."""
        info = await self.bus.stream()
        metadata = info["config"].get("metadata") or {}
        return int(info["state"]["last_seq"]), nanoseconds(info["created"]), int(metadata.get(TRIMMED, 0))

    # What the bus delivers.

    def _anew(self) -> None:
        """The log was read anew because it is another one: sequences that listeners know mean nothing any more."""
        self.last = 0
        for listener in tuple(self._listeners):
            listener.cut()

    def _kept(self, stored: Stored) -> None:
        heard = heard_from(stored)
        self.last = heard.sequence
        self.revision = max(self.revision, heard.revision)
        if heard.type == "operation":
            self._remember(heard)
        self._pass(heard)

    def _told(self, msg: Msg) -> None:
        _, kind, project = msg.subject.split(".")
        heard = Heard(0, kind, unescape(project), msg.data, 0)
        if kind == "operation" and _operation(msg.data).id in self._ended_ids:
            return
        self._pass(heard)

    def _pass(self, heard: Heard) -> None:
        for listener in tuple(self._listeners):  # one that is cut off leaves
            listener.offer(heard)

    def _remember(self, heard: Heard) -> None:
        told = _operation(heard.data)
        if told.status_code < 200:
            return
        if len(self._ended) == self._ended.maxlen:
            self._ended_ids.discard(self._ended[0])
        self._ended.append(told.id)
        self._ended_ids.add(told.id)

    def join(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)


class Listener:
    """One listener: an async context manager and an async iterator of Heard. Unavailable when it was cut off."""

    def __init__(self, feed: Feed, types: frozenset[str], project: str | None, since: int | None) -> None:
        self._feed = feed
        self._types = types
        self._project = project
        self._since = since
        self._waiting: deque[Heard] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._cut = False
        self._seen = since or 0

    async def __aenter__(self) -> Listener:
        if self._since is not None:
            await self._feed.check_since(self._since)
        else:
            self._feed.join(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def behind(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._waiting)

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._feed.leave(self)
        self._wake.set()

    def offer(self, heard: Heard) -> None:
        """Called by the feed for every event."""
        if not self._wants(heard) or (heard.sequence and heard.sequence <= self._seen):
            return
        if len(self._waiting) >= self._feed.bound:
            self.cut()
        else:
            self._waiting.append(heard)
            self._wake.set()

    def cut(self) -> None:
        """End the iteration with Unavailable."""
        self._cut = True
        self._waiting.clear()
        self._feed.leave(self)
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Heard]:
        return self._heard()

    async def _heard(self) -> AsyncIterator[Heard]:
        if self._since is not None:
            async for heard in self._history():
                yield heard
        while not self._closed:
            while self._waiting:
                heard = self._waiting.popleft()
                if heard.sequence:
                    self._seen = heard.sequence
                yield heard
            if self._cut:
                raise Unavailable(f"The listener was cut off, it lags; go on with since={self._seen}")
            self._wake.clear()
            if not self._waiting and not self._closed and not self._cut:
                await self._wake.wait()

    async def _history(self) -> AsyncIterator[Heard]:
        """What the log keeps, up to what the feed has passed on already; from there on it is one of its listeners."""
        while not self._closed:
            if self._feed.last <= self._seen:
                self._feed.join(self)
                return
            feed_last = self._feed.last
            page = await self._feed.bus.page(EVENTS, self._seen, PAGE)
            for stored in page:
                self._seen = stored.sequence
                heard = heard_from(stored)
                if self._wants(heard):
                    yield heard
            if not page:
                # Nothing is kept between here and what the feed had passed on when it was asked.
                self._seen = max(self._seen, feed_last)

    def _wants(self, heard: Heard) -> bool:
        if self._types and heard.type not in self._types:
            return False
        return self._project is None or not heard.project or heard.project == self._project


class _Told(msgspec.Struct):
    id: str = ""
    status_code: int = 0


class _OperationEvent(msgspec.Struct):
    metadata: _Told


_operation_event = msgspec.json.Decoder(_OperationEvent)


def _operation(data: bytes) -> _Told:
    """Which operation an event tells of, and its status."""
    try:
        return _operation_event.decode(data).metadata
    except msgspec.MsgspecError:
        return _Told()


def heard_from(stored: Stored) -> Heard:
    _, kind, project, _ = stored.subject.split(".")
    back = int(stored.headers.get(HEADER_BACK, "0"))
    revision = stored.sequence - back if back else 0
    return Heard(stored.sequence, kind, unescape(project), stored.data, revision)
