"""Bodies that are not held whole: lists and files that come as Chunks, uploads that go as frames.

A list that turns out short is sent with its length, as LXD does; a long one goes out in chunks while it still
comes in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import Message

from chassis import errors, rpc
from chassis.calls import Call
from chassis.contracts import Method
from gen.nubibus.rest.v1 import rest_pb2
from services.gateway import encode
from services.gateway.auth import refuse_foreign_projects
from services.gateway.encode import Response
from services.gateway.permissions import needed
from services.gateway.requests import LARGEST_BODY, ClientGone, Request, fill, is_streamed, too_large
from services.gateway.routes import Route

SHORT = 128 * 1024  # bytes up to which a body is sent with its length
PIECE = 1024 * 1024  # bytes of one frame of an upload


async def download(method: Method, message: Any, call: Call) -> Response:
    """The answer of a server-streaming method. What fails before the first piece is a fault as usual."""
    stream = rpc.stream(method.service, method.name, message, context=call)
    head: rest_pb2.Document | None = None
    parts: list[bytes] = []
    size = 0
    async for chunk in stream:
        if head is None:
            head = chunk.head if chunk.HasField("head") else rest_pb2.Document()
        parts.append(chunk.data)
        size += len(chunk.data)
        if size > SHORT:
            return _long(head, parts, stream)
    data = b"".join(parts)
    head = head or rest_pb2.Document()
    if head.raw:
        return Response(head.status or 200, encode.raw_headers(head), data or head.json, head.revision)
    head.json = data or head.json
    return encode.document(head)


def _long(head: rest_pb2.Document, parts: list[bytes], stream: AsyncIterator[Any]) -> Response:
    async def body(before: bytes, after: bytes) -> AsyncIterator[bytes]:
        try:
            yield before + b"".join(parts)
            parts.clear()
            async for chunk in stream:
                yield chunk.data
            if after:
                yield after
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # an async generator: cancels the call when left early

    if head.raw:
        return Response(head.status or 200, encode.raw_headers(head), body(b"", b""), head.revision)
    headers = [encode.JSON, *encode.document_headers(head)]
    return Response(head.status or 200, headers, body(encode.SYNC, encode.END), head.revision)


async def upload(route: Route, request: Request, parameters: tuple[str, ...], call: Call) -> Response:
    """Send a request and its body to a client-streaming method; a JSON body goes within the request if it has
    a field for it.
    """
    assert route.method is not None
    assert route.frame is not None
    method = route.method
    message = fill(route, request, parameters)
    streamed = is_streamed(route, request)
    if not streamed:
        body = await request.body()
        refuse_foreign_projects(request.caller, body, needed(route))
        message.body = body  # type: ignore[attr-defined]
    may_be_json = bool(route.option and route.option.schema)
    pieces = _looked_through(request, needed(route)) if may_be_json else request.pieces()
    frames = _frames(method.request, route.frame, message, pieces if streamed else None)
    try:
        found = await rpc.call(method.service, method.name, frames, timeout=_FOR_EVER, context=call)
    except (asyncio.CancelledError, errors.Fault):
        if request.gone:  # the call was cancelled because the body broke off
            raise ClientGone from None
        if request.refused is not None:  # or because it is refused
            raise request.refused from None
        raise
    return encode.answer(found)


async def _looked_through(request: Request, permission: str) -> AsyncIterator[bytes]:
    """The body; one of a restricted client that begins like JSON is read whole first, for it may name another project."""
    pieces = request.pieces()
    if request.caller.projects is None:
        async for piece in pieces:
            yield piece
        return
    begun = b""
    async for piece in pieces:
        begun += piece
        start = begun.lstrip()
        if start and not start.startswith(b"{"):
            break
        if len(begun) > LARGEST_BODY:
            break
    _accept(request, begun, permission)
    if begun:
        yield begun
    async for piece in pieces:
        yield piece


def _accept(request: Request, begun: bytes, permission: str) -> None:
    """Raise and keep what is wrong with a body: gRPC makes a mere cancellation of what its request iterator raises."""
    try:
        if len(begun) > LARGEST_BODY and begun.lstrip().startswith(b"{"):
            raise too_large(LARGEST_BODY)
        refuse_foreign_projects(request.caller, begun, permission)
    except errors.Fault as fault:
        request.refused = fault
        raise


async def _frames(
    frame: type[Message], names: tuple[str, str], message: Message, pieces: AsyncIterator[bytes] | None
) -> AsyncIterator[Message]:
    """The request, then the body's pieces if it is streamed."""
    request_name, data_name = names
    yield frame(**{request_name: message})
    if pieces is None:
        return
    pending = bytearray()
    async for piece in pieces:
        if not pending and len(piece) >= PIECE:
            yield frame(**{data_name: piece})
            continue
        pending += piece
        if len(pending) >= PIECE:
            yield frame(**{data_name: bytes(pending)})
            pending.clear()
    if pending:
        yield frame(**{data_name: bytes(pending)})


_FOR_EVER = 7 * 24 * 3600.0  # seconds; the client's connection is the limit
