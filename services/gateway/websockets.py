"""The websocket endpoints:

events, and the websockets of operations, which are carried to their owner as gRPC streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from chassis import errors, rpc
from chassis.calls import Call
from chassis.operations import RUNNING
from gen.nubibus.rest.v1 import rest_pb2
from services.gateway.events import Events
from services.gateway.http import Send
from services.gateway.operations import Operations
from services.gateway.requests import Request

SERVICE = "nubibus.rest.v1.Sockets"
NORMAL, LAGGING, FAILED = 1000, 1013, 1011  # RFC 6455 and its registry


class EventsSocket:
    """GET /1.0/events."""

    def __init__(self, events: Events) -> None:
        self.events = events

    async def __call__(self, request: Request, _parameters: tuple[str, ...], send: Send | None = None) -> Any:
        if send is None:
            raise errors.BadRequest("Bad Request")
        await request.receive()  # websocket.connect
        listener, following = await self.events.listen(request)
        try:
            await send({"type": "websocket.accept"})
            gone = asyncio.create_task(until_gone(request), name="events: wait for the client's end")
            try:
                await self._tell(listener, send, gone)
            finally:
                gone.cancel()
        finally:
            await self.events.leave(listener, following)

    @staticmethod
    async def _tell(listener: Any, send: Send, gone: asyncio.Task[None]) -> None:
        while not gone.done():
            following = asyncio.ensure_future(listener.next())
            await asyncio.wait((following, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                following.cancel()
                return
            data = following.result()
            if data is None:
                with suppress(RuntimeError):
                    await send({"type": "websocket.close", "code": LAGGING, "reason": "the listener lags"})
                return
            await send({"type": "websocket.send", "text": data.decode()})


async def until_gone(request: Request) -> None:
    """Read and drop what a client sends, until it goes."""
    while (await request.receive())["type"] != "websocket.disconnect":
        pass


class OperationSocket:
    """GET /1.0/operations/{id}/websocket?secret=…"""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def __call__(self, request: Request, parameters: tuple[str, ...], send: Send | None = None) -> Any:
        secret = request.query.get("secret", "")
        row = await self.operations.one(parameters[0], request.caller, secret)
        operation = row.value
        if operation.kind != "websocket":
            raise errors.BadRequest("Only websocket operations can be connected")
        if operation.status_code != RUNNING:
            raise errors.BadRequest("Only running operations can be connected")
        if not secret:
            raise errors.BadRequest("Missing websocket secret")
        if send is None:
            raise errors.BadRequest("Bad Request")
        await request.receive()  # websocket.connect
        frames = from_client(request, operation.id, secret)
        context = Call(caller=request.caller, revision=row.revision)
        stream = rpc.stream(
            SERVICE, "Connect", frames, part=operation.owner, member=operation.location, context=context
        )
        await carry(stream, send)


async def from_client(request: Request, operation: str, secret: str) -> AsyncIterator[rest_pb2.SocketFrame]:
    """What the client sends, as frames; the first names the operation. Its going is the frame `close`."""
    yield rest_pb2.SocketFrame(operation=operation, secret=secret)
    while True:
        message = await request.receive()
        if message["type"] == "websocket.disconnect":
            yield rest_pb2.SocketFrame(close=True)
            return
        text = message.get("text")
        if text is not None:
            yield rest_pb2.SocketFrame(data=text.encode(), text=True)
        else:
            yield rest_pb2.SocketFrame(data=message.get("bytes") or b"")


async def carry(stream: AsyncIterator[Any], send: Send) -> None:
    """What the owner sends, to the client. The first frame says that the owner took the websocket."""
    accepted = False
    try:
        async with aclosing(stream) as frames:  # type: ignore[type-var]  # an async generator
            async for frame in frames:
                if not accepted:
                    await send({"type": "websocket.accept"})
                    accepted = True
                elif frame.close:
                    break
                elif frame.text:
                    await send({"type": "websocket.send", "text": frame.data.decode("utf-8", "replace")})
                else:
                    await send({"type": "websocket.send", "bytes": frame.data})
    except errors.Fault as fault:
        if not accepted:
            raise
        with suppress(RuntimeError, OSError):
            await send({"type": "websocket.close", "code": FAILED, "reason": fault.text[:100]})
        return
    except (RuntimeError, OSError):  # the client has gone
        return
    with suppress(RuntimeError, OSError):
        await send({"type": "websocket.close", "code": NORMAL})
