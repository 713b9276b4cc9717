"""The events websocket: one order for all, nobody slowed by a listener that lags, and resumable.

One follower of the log feeds all listeners; a listener that asks `since=SEQ` has a follower of its own that
begins there. Log lines and progress ticks come from the bus and have no sequence. A listener whose queue is
full is cut off: it can resume with `since`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from nats.aio.msg import Msg

from chassis import errors, events
from chassis.bus import Bus
from chassis.calls import Caller
from chassis.log import HEADER_BACK, STREAM, Following, Stored
from services.gateway.auth import not_authorized
from services.gateway.requests import Request

TYPES = ("operation", "logging", "lifecycle")
PRIVILEGED = "logging"
WAITING = 8192  # events that may wait for one listener
WAITING_BYTES = 16 * 1024 * 1024


class Told(msgspec.Struct):
    """What is needed of an event to decide who gets it."""

    type: str
    project: str = ""
    metadata: msgspec.Raw = msgspec.Raw(b"null")


_told = msgspec.json.Decoder(Told).decode


@dataclass(eq=False)
class Listener:
    """One websocket: what it wants, and what waits for it."""

    types: frozenset[str]
    project: str | None  # None: all of them
    caller: Caller
    own: bool = False  # reads stored events by itself (since=)
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    size: int = 0  # bytes that wait
    lagging: bool = False

    def wants(self, told: Told) -> bool:
        if told.type not in self.types:
            return False
        return self.project is None or not told.project or told.project == self.project

    def put(self, data: bytes) -> None:
        """Queue an event, or cut the listener off."""
        if self.lagging:
            return
        if self.queue.qsize() >= WAITING or self.size + len(data) > WAITING_BYTES:
            self.lagging = True
            self.queue.put_nowait(None)
            return
        self.size += len(data)
        self.queue.put_nowait(data)

    async def next(self) -> bytes | None:
        """The next event; None when the listener has been cut off."""
        data = await self.queue.get()
        if data is None or self.lagging:
            return None
        self.size -= len(data)
        return data


class Events:
    """Feeds the listeners.

    `open` before use; `saw` is told the revision that an event belongs to before it is shown.
    """

    def __init__(self, bus: Bus, saw: Callable[[int], None], tick: Callable[[dict[str, object]], None]) -> None:
        self.bus = bus
        self.saw = saw
        self.tick = tick
        self.listeners: set[Listener] = set()
        self.following: Following | None = None

    async def open(self) -> None:
        """Follow from now on."""
        self.following = await self.bus.follow(events.EVENTS, await self._last(), self._stored, caught_up=_nothing)
        await self.bus.subscribe(events.LIVE, self._live)

    async def close(self) -> None:
        if self.following is not None:
            await self.following.stop()
        for listener in list(self.listeners):
            listener.queue.put_nowait(None)

    async def _last(self) -> int:
        """Sequence of the newest message of the log."""
        info = await self.bus.api(f"STREAM.INFO.{STREAM}")
        return int(info.get("state", {}).get("last_seq", 0))

    def _stored(self, stored: Stored) -> None:
        """An event of the log, in order."""
        if stored.deleted or not stored.data:
            return
        self._saw(stored)
        self._tell(stored.data, stored.sequence, [each for each in self.listeners if not each.own])

    def _saw(self, stored: Stored) -> None:
        """Who sees an event must be able to read the rows that it tells of."""
        back = stored.headers.get(HEADER_BACK)
        if back:
            self.saw(stored.sequence - int(back))

    def _tell(self, data: bytes, sequence: int, to: list[Listener]) -> None:
        if not to:
            return
        try:
            told = _told(data)
        except msgspec.MsgspecError:
            return
        shown = with_sequence(data, sequence) if sequence else data + b"\n"
        for listener in to:
            if listener.wants(told):
                listener.put(shown)

    async def _live(self, msg: Msg) -> None:
        """A log line or a progress tick."""
        if msg.subject.startswith("live.operation."):
            with suppress(msgspec.MsgspecError):
                self.tick(msgspec.json.decode(_told(msg.data).metadata, type=dict[str, object]))
        self._tell(msg.data, 0, list(self.listeners))

    async def listen(self, request: Request) -> tuple[Listener, Following | None]:
        """A listener for a request; end it with `leave`. Raises the fault that LXD answers."""
        listener = listener_of(request)
        if not listener.own:
            self.listeners.add(listener)
            return listener, None
        since = request.number("since")

        def deliver(stored: Stored) -> None:
            if not stored.deleted and stored.data:
                self._saw(stored)
                self._tell(stored.data, stored.sequence, [listener])

        self.listeners.add(listener)
        return listener, await self.bus.follow(events.EVENTS, since, deliver, caught_up=_nothing)

    async def leave(self, listener: Listener, following: Following | None) -> None:
        self.listeners.discard(listener)
        if following is not None:
            await following.stop()


def _nothing(_sequence: int) -> None:
    return None


def with_sequence(data: bytes, sequence: int) -> bytes:
    """The event with the additive field; events are JSON objects with at least one field."""
    return b'%s,"sequence":%d}\n' % (data.rstrip()[:-1], sequence)


def listener_of(request: Request) -> Listener:
    """What a request may and wants to hear. Raises as LXD does."""
    caller, query = request.caller, request.query
    everywhere = request.flag("all-projects")
    if everywhere and query.get("project"):
        raise errors.Internal("Cannot specify a project when requesting all projects")
    if everywhere and not caller.admin:
        raise not_authorized()
    if not everywhere and not caller.may_see(request.project):
        raise not_authorized()
    asked = [name for name in query.get("type", "").split(",") if name or query.get("type")]
    for name in asked:
        if name not in TYPES:
            raise errors.Internal(f'"{name}" isn\'t a supported event type')
    if PRIVILEGED in asked and not caller.admin:
        raise not_authorized()
    types = asked or [name for name in TYPES if caller.admin or name != PRIVILEGED]
    project = None if everywhere else request.project
    return Listener(frozenset(types), project, caller, own="since" in query)
