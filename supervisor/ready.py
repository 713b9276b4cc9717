"""Whether a server is ready: each part answers its list over the REST socket. Standard library only; it is on the start path."""

from __future__ import annotations

import asyncio
from pathlib import Path

# One question a part; the answer's status line is all that is read.
QUESTIONS = {
    "control": "/1.0/projects",
    "instances": "/1.0/profiles",
    "storage": "/1.0/storage-pools",
    "network": "/1.0/networks",
    "images": "/1.0/images",
}
PAUSE = 0.05  # seconds between two rounds


async def missing(directory: Path) -> list[str]:
    """The parts that do not answer; the gateway alone when the socket does not."""
    try:
        answers = await asyncio.gather(*(_status(directory / "unix.socket", path) for path in QUESTIONS.values()))
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return ["gateway"]
    return [part for part, status in zip(QUESTIONS, answers, strict=True) if status != 200]


async def wait(directory: Path, seconds: float) -> list[str]:
    """Until all answer, or `seconds` have passed; the parts that still do not."""
    deadline = asyncio.get_running_loop().time() + seconds
    while away := await missing(directory):
        if asyncio.get_running_loop().time() > deadline:
            return away
        await asyncio.sleep(PAUSE)
    return []


async def _status(socket: Path, path: str) -> int:
    """The status code of a GET."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: nubibus\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readuntil(b"\r\n")
            return int(line.split()[1])
        finally:
            writer.close()
