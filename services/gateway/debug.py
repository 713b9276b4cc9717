"""/debug/pprof/ on `core.debug_address`: plain HTTP, without authentication, as LXD has it. Python's twin of
Go's profiles: tasks for goroutines, objects for the heap, sampled stacks for the CPU. `?part=storage` asks
another part than the gateway.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import structlog

from chassis.bus import Bus
from chassis.errors import Unavailable
from chassis.listening import DEBUG, split

PROFILES = {
    # path below /debug/pprof/ -> what the part is asked
    "goroutine": "tasks",
    "threadcreate": "tasks",
    "heap": "heap",
    "allocs": "heap",
    "profile": "profile",
    "cmdline": "cmdline",
}
ROOT = "/debug/pprof/"
OWN = "gateway"
log = structlog.get_logger()


class DebugListener:
    """Listens on one address, or on none."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.address = ""
        self.server: asyncio.AbstractServer | None = None

    async def listen(self, address: str) -> None:
        """Listen on exactly this address; "" for nowhere. What cannot be bound is logged and tried again."""
        if address == self.address and (self.server is not None or not address):
            return
        await self.close()
        self.address = address
        if not address:
            return
        try:
            host, port = split(address, DEBUG)
            self.server = await asyncio.start_server(self._answer, host or None, port)
        except (OSError, ValueError) as error:
            log.warning("cannot listen for debugging", address=address, error=str(error))

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            async with asyncio.timeout(10):
                words = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
            status, type_, text = await self.respond(words[1].decode("latin-1"))
            body = text.encode()
            head = (f"HTTP/1.1 {status}", f"Content-Type: {type_}", f"Content-Length: {len(body)}", "Connection: close")
            writer.write("\r\n".join((*head, "", "")).encode() + body)
            await writer.drain()
        writer.close()

    async def respond(self, url: str) -> tuple[str, str, str]:
        """Status, content type and text for a path with its query."""
        found = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(found.query).items()}
        plain = "text/plain; charset=utf-8"
        if found.path == ROOT:
            return "200 OK", "text/html; charset=utf-8", index()
        question = PROFILES.get(found.path.removeprefix(ROOT))
        if question is None or not found.path.startswith(ROOT):
            return "404 Not Found", plain, "404 page not found\n"
        seconds = _seconds(query.get("seconds", ""))
        if question == "profile":
            question = f"profile {seconds}"
        try:
            part = query.get("part", OWN)
            answer = await self.bus.request(f"$SRV.DEBUG.{part}", question.encode(), timeout=seconds + 10)
        except Unavailable as fault:
            return "503 Service Unavailable", plain, fault.text + "\n"
        return "200 OK", plain, answer.data.decode() + "\n"


def _seconds(text: str) -> int:
    return min(int(text), 300) if text.isascii() and text.isdigit() else 30


def index() -> str:
    links = "".join(f'<tr><td><a href="{name}?debug=1">{name}</a></td></tr>' for name in PROFILES)
    return f"<html><head><title>{ROOT}</title></head><body>{ROOT}<br><table>{links}</table></body></html>\n"
