"""The body of an upload on its way into the store: hashed while it arrives, written to a temporary file, never held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from chassis import errors
from gen.nubibus.images.v1 import image_pb2
from services.images.files import Incoming
from services.images.multipart import Begin, boundary_of, parts

SECOND = {"rootfs": False, "rootfs.img": True}


class Received:
    """What came of a body: the upload, or why it is no image. LXD tells of the latter in the operation."""

    def __init__(self) -> None:
        self.failure = ""
        self.disk = False
        self.filename = ""


async def pieces(frames: AsyncIterator[image_pb2.CreateImageFrame]) -> AsyncIterator[bytes]:
    async for frame in frames:
        yield frame.data


async def told_apart(content_type: str, body: AsyncIterator[bytes]) -> tuple[bool, AsyncIterator[bytes]]:
    """Whether a body is JSON, and the body. As with LXD, what is not said to be JSON and does not look like it is an image."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return True, body
    if kind in ("application/octet-stream", "multipart/form-data"):
        return False, body
    first = await anext(body, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in body:
            yield piece

    return first.lstrip()[:1] == b"{", whole()


async def receive(body: AsyncIterator[bytes], content_type: str, incoming: Incoming) -> Received:
    """Take the whole body. When it breaks off, whoever waits for it is cancelled or it raises; nothing is left then."""
    received = Received()
    try:
        if content_type.startswith("multipart/form-data"):
            await _receive_form(body, content_type, incoming, received)
        else:
            await incoming.begin(incoming.meta)
            async for piece in body:
                await incoming.add(piece)
    except errors.Internal as fault:
        if fault.text not in ("EOF", "Invalid multipart image"):
            incoming.drop()
            raise
        received.failure = fault.text
        async for _ in body:
            pass  # the client must be able to send to the end to read the answer
    except (asyncio.CancelledError, Exception):
        incoming.drop()
        raise
    incoming.finish()
    return received


async def _receive_form(body: AsyncIterator[bytes], content_type: str, incoming: Incoming, received: Received) -> None:
    """Two parts, "metadata" and then "rootfs" or "rootfs.img"; what follows is ignored, as LXD does."""
    count = 0
    async for found in parts(body, boundary_of(content_type)):
        if isinstance(found, Begin):
            count += 1
            await _begin_part(count, found, incoming, received)
        elif count <= 2:
            await incoming.add(found)
    if count < 2:
        raise errors.Internal("EOF")


async def _begin_part(count: int, part: Begin, incoming: Incoming, received: Received) -> None:
    if count == 1:
        if part.name != "metadata":
            raise errors.Internal("Invalid multipart image")
        await incoming.begin(incoming.meta)
    elif count == 2:
        if part.name not in SECOND:
            raise errors.Internal("Invalid multipart image")
        received.disk = SECOND[part.name]
        received.filename = part.filename
        await incoming.begin(incoming.rootfs)
