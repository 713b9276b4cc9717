"""The websockets of an operation (exec, console, migration) as one gRPC stream each.

A part registers a handler for an operation id when it accepts the operation, and forgets it when the
operation ends:

    async def attach(socket: Socket) -> None:        # socket.name is the key in the operation's metadata.fds
    ("0", "1", "control")
        async for data in socket: ...
        await socket.send(b"...")
    sockets.register(operation_id, {"0": secret, "control": other}, attach)

The handler runs as long as the websocket; when it returns the websocket is closed normally, and when that is done `socket.left` is
set. When the client goes, reading ends and sending raises `Gone`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from chassis import errors
from chassis.calls import Call
from gen.nubibus.rest.v1 import rest_pb2

AHEAD = 16  # frames that may wait for the client before `send` waits
PATIENCE = 30.0  # seconds for a slow client to take the last of what was sent


class Gone(Exception):
    """The client of a websocket went away."""


@dataclass(slots=True)
class Message:
    """What a client sent: text and binary differ in LXD's protocol (an empty text is "no more input")."""

    data: bytes
    text: bool


class Socket:
    """One attached websocket. Iterate over what the client sends; `send` waits when the client is slow."""

    def __init__(self, operation: str, name: str, frames: AsyncIterator[rest_pb2.SocketFrame]) -> None:
        self.operation = operation
        self.name = name
        self._frames = frames
        self._out: asyncio.Queue[rest_pb2.SocketFrame | None] = asyncio.Queue(AHEAD)
        self._gone = asyncio.Event()
        self.left = asyncio.Event()  # the websocket has ended: what was sent is with the client, or the client has gone

    async def __aiter__(self) -> AsyncIterator[Message]:
        with suppress(errors.Cancelled):
            async for frame in self._frames:
                if frame.close:
                    break
                yield Message(frame.data, frame.text)
        self._gone.set()

    async def send(self, data: bytes, *, text: bool = False) -> None:
        await self._put(rest_pb2.SocketFrame(data=data, text=text))

    async def end_of_output(self) -> None:
        """LXD's mark that no more output follows: an empty text frame."""
        await self._put(rest_pb2.SocketFrame(data=b"", text=True))

    @property
    def gone(self) -> asyncio.Event:
        """Set when the client is known to have gone."""
        return self._gone

    async def _put(self, frame: rest_pb2.SocketFrame) -> None:
        if self._gone.is_set():
            raise Gone
        if not self._out.full():
            self._out.put_nowait(frame)
            return
        put = asyncio.ensure_future(self._out.put(frame))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((put, gone), return_when=asyncio.FIRST_COMPLETED)
            if not put.done():
                raise Gone
        finally:
            put.cancel()
            gone.cancel()


Handler = Callable[[Socket], Awaitable[None]]


@dataclass(slots=True)
class Registration:
    secrets: Mapping[str, str]  # name of the websocket -> its secret
    handler: Handler
    taken: set[str] = field(default_factory=set)


class Sockets:
    """Servicer of nubibus.rest.v1.Sockets."""

    service: ClassVar[str] = "nubibus.rest.v1.Sockets"

    def __init__(self) -> None:
        self.registered: dict[str, Registration] = {}

    def register(self, operation: str, secrets: Mapping[str, str], handler: Handler) -> None:
        self.registered[operation] = Registration(dict(secrets), handler)

    def forget(self, operation: str) -> None:
        self.registered.pop(operation, None)

    async def Connect(
        self, request: AsyncIterator[rest_pb2.SocketFrame], call: Call
    ) -> AsyncIterator[rest_pb2.SocketFrame]:
        first = await anext(aiter(request), None)
        if first is None:
            raise errors.BadRequest("A websocket begins with its operation and secret")
        registration, name = self._find(first)
        yield rest_pb2.SocketFrame()  # tells the gateway that the websocket may be opened
        socket = Socket(first.operation, name, aiter(request))
        task = asyncio.create_task(self._run(registration.handler, socket), name=f"websocket {name}")
        try:
            while (frame := await socket._out.get()) is not None:
                yield frame
            await task
            yield rest_pb2.SocketFrame(close=True)
            await asyncio.sleep(PATIENCE)  # the gateway ends the call when it has sent everything
        finally:
            socket._gone.set()
            socket.left.set()
            if not task.done():
                task.cancel()

    def _find(self, first: rest_pb2.SocketFrame) -> tuple[Registration, str]:
        registration = self.registered.get(first.operation)
        if registration is None:
            raise errors.NotFound("Operation not found")
        for name, secret in registration.secrets.items():
            if hmac.compare_digest(secret.encode(), first.secret.encode()):
                if name in registration.taken:
                    raise errors.Forbidden("The websocket is connected already")
                registration.taken.add(name)
                return registration, name
        raise errors.Internal("permission denied")

    @staticmethod
    async def _run(handler: Handler, socket: Socket) -> None:
        try:
            await handler(socket)
        except Gone:
            pass
        finally:
            await asyncio.wait_for(socket._out.put(None), PATIENCE)
