"""/livez, /readyz and /metrics of a part, on a port of their own, when asked for.

Alive is whoever answers; ready is whoever lacks nothing, and /readyz says what is lacking and what to do about it. Nothing else is
served here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from chassis import metrics
from chassis.metrics import Counters

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def serve(
    listen: str, lacks: Callable[[], Sequence[str]], counters: Counters
) -> Callable[[], Coroutine[Any, Any, None]]:
    """A task that serves on "host:port". `lacks` gives the reasons why the part is not ready."""
    found = metrics.registry(counters)

    def respond(path: str) -> tuple[str, bytes]:
        if path == "/livez":
            return "200 OK", b"ok\n"
        if path == "/readyz":
            reasons = lacks()
            return ("503 Service Unavailable", "\n".join((*reasons, "")).encode()) if reasons else ("200 OK", b"ok\n")
        if path == "/metrics":
            return "200 OK", metrics.exposition(found)
        return "404 Not Found", b"not found\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                words = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
            status, body = respond(words[1].partition(b"?")[0].decode("latin-1") if len(words) > 1 else "")
            head = (f"HTTP/1.1 {status}", f"Content-Type: {TEXT}", f"Content-Length: {len(body)}", "Connection: close")
            writer.write("\r\n".join((*head, "", "")).encode() + body)
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        host, _, port = listen.rpartition(":")
        async with await asyncio.start_server(answer, host.strip("[]") or None, int(port)) as server:
            await server.serve_forever()

    return run
