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
from chassis.feed import Feed, Listener
from chassis.operations import RUNNING
from gen.nubibus.rest.v1 import rest_pb2
from services.gateway.events import shown, wish_of
from services.gateway.http import Send
from services.gateway.operations import Operations, knows
from services.gateway.requests import Request

SERVICE = "nubibus.rest.v1.Sockets"
NORMAL, FAILED, RESTARTING, LAGGING = 1000, 1011, 1012, 1013  # RFC 6455 and its registry


class EventsSocket:
    """GET /1.0/events. A client that lags is cut off: it can resume with `since`."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def __call__(self, request: Request, _parameters: tuple[str, ...], send: Send | None = None) -> Any:
        wish = wish_of(request)
        if send is None:
            raise errors.BadRequest("Bad Request")
        await request.receive()  # websocket.connect
        async with wish.listen(self.feed) as listener:
            await send({"type": "websocket.accept"})
            telling = asyncio.create_task(tell(listener, send), name="events: tell")
            gone = asyncio.create_task(until_gone(request), name="events: wait for the client's end")
            try:
                await asyncio.wait((telling, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                telling.cancel()
                await asyncio.gather(gone, telling, return_exceptions=True)


async def tell(listener: Listener, send: Send) -> None:
    """Send what is heard, until the listener is cut off or the client has gone."""
    with suppress(RuntimeError, OSError):  # the client has gone
        try:
            async for heard in listener:
                await send({"type": "websocket.send", "text": shown(heard)})
        except errors.Unavailable as fault:
            await send({"type": "websocket.close", "code": LAGGING, "reason": fault.text[:100]})
            return
        await send({"type": "websocket.close", "code": RESTARTING})


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
        if not knows(operation, secret):
            raise errors.Internal("permission denied")
        if send is None:
            raise errors.BadRequest("Bad Request")
        await request.receive()  # websocket.connect
        # The row says that the secret is right: the client need not wait until the owner has said so too.
        await send({"type": "websocket.accept"})
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
    """What the owner sends, to the client. The first frame only says that the owner took the websocket."""
    taken = False
    code, reason = NORMAL, ""
    try:
        async with aclosing(stream) as frames:  # type: ignore[type-var]  # an async generator
            async for frame in frames:
                if not taken:
                    taken = True
                elif frame.close:
                    break
                elif frame.text:
                    await send({"type": "websocket.send", "text": frame.data.decode("utf-8", "replace")})
                else:
                    await send({"type": "websocket.send", "bytes": frame.data})
    except errors.Fault as fault:
        code, reason = FAILED, fault.text[:100]
    except (RuntimeError, OSError):  # the client has gone
        return
    with suppress(RuntimeError, OSError):
        await send({"type": "websocket.close", "code": code, "reason": reason})
