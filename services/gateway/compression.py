"""JSON answers, compressed for a client that asks for it (`Accept-Encoding: gzip`) where it is worth the work.

Files, images and websockets go out as they are. One fast level: an answer of a megabyte takes some ten milliseconds.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing

from services.gateway.encode import JSON, Response

WORTH = 16 * 1024  # bytes from which an answer is compressed
LONG = 256 * 1024  # bytes from which it is done beside the loop
LEVEL = 1
GZIP = 31  # zlib's "wbits" for gzip with the largest window
HEADERS = [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]


def wanted(accepted: str) -> bool:
    """Whether an Accept-Encoding header asks for gzip."""
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


async def compressed(response: Response, accepted: str) -> Response:
    """The response as the client wants it; its ETag stays, for it names the object and not the bytes."""
    whole = response.body if isinstance(response.body, bytes) else None
    if JSON not in response.headers or (whole is not None and len(whole) < WORTH) or not wanted(accepted):
        return response
    body: bytes | AsyncIterator[bytes]
    if whole is None:
        body = _piece_by_piece(response.body)  # type: ignore[arg-type]  # it is not bytes
    elif len(whole) < LONG:
        body = _squeeze(whole)
    else:
        body = await asyncio.to_thread(_squeeze, whole)
    return Response(response.status, [*response.headers, *HEADERS], body, response.revision)


def _squeeze(data: bytes) -> bytes:
    squeezer = zlib.compressobj(LEVEL, wbits=GZIP)
    return squeezer.compress(data) + squeezer.flush()


async def _piece_by_piece(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    squeezer = zlib.compressobj(LEVEL, wbits=GZIP)
    async with aclosing(pieces) as given:  # type: ignore[type-var]  # every body is an async generator
        async for piece in given:
            if data := await asyncio.to_thread(squeezer.compress, piece):
                yield data
    yield squeezer.flush()
