"""Compressing what goes out as an archive (images, backups): a fixed list of programs, as child processes that are fed a tar."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from chassis import errors
from chassis.command import Command

PROGRAMS: dict[str, tuple[str, ...]] = {
    "bzip2": ("bzip2", "-c"),
    "gzip": ("gzip", "-n", "-c"),
    "lzma": ("xz", "--format=lzma", "-c"),
    "xz": ("xz", "-c"),
    "zstd": ("zstd", "-q", "-c"),
}
NAMES = frozenset({*PROGRAMS, "none", "squashfs"})
DEFAULT = "gzip"
_LEVEL = re.compile(r"-[0-9]{1,2}|--fast|--best|-T[0-9]{1,2}|--ultra")


def parse(text: str) -> tuple[str, ...]:
    """ "gzip -9" as (name, options). Raises BadRequest in LXD's words; as options only levels and numbers of threads are taken."""
    words = text.split()
    if not words or words[0] not in NAMES or not all(_LEVEL.fullmatch(word) for word in words[1:]):
        raise errors.BadRequest(f'Invalid compression algorithm "{text}"')
    return tuple(words)


def refuse_missing(algorithm: tuple[str, ...]) -> None:
    """Raises BadRequest if the program is not installed."""
    name = algorithm[0]
    program = "mksquashfs" if name == "squashfs" else PROGRAMS.get(name, ("",))[0]
    if program:
        try:
            Command(program).vector()
        except errors.Internal as fault:
            raise errors.BadRequest(fault.text) from None


def command_for(algorithm: tuple[str, ...], target: Path) -> Command | None:
    """What reads a tar from its input. It writes the result to its output, but for squashfs, which is written to `target`."""
    name, *options = algorithm
    if name == "none":
        return None
    if name == "squashfs":
        return Command("mksquashfs", "-", str(target), "-tar", "-noappend", "-quiet", "-no-progress", "-comp", "gzip")
    program, *fixed = PROGRAMS[name]
    return Command(program, *fixed, *options)


async def compress(data: AsyncIterator[bytes], algorithm: tuple[str, ...], target: Path) -> None:
    """Write the tar, compressed, to a new file. Raises Internal; what was written until then stays for the caller to remove."""
    target.unlink(missing_ok=True)
    command = command_for(algorithm, target)
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if command is None:
            async for piece in data:
                await asyncio.to_thread(_write, out, piece)
        else:
            await _through(command, data, out)
    finally:
        os.close(out)


def _write(file: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]


async def _through(command: Command, data: AsyncIterator[bytes], out: int) -> None:
    async with command.open(stdin=asyncio.subprocess.PIPE, stdout=out) as tool:
        with suppress(BrokenPipeError, ConnectionResetError):
            async for piece in data:
                tool.stdin.write(piece)
                await tool.stdin.drain()
        with suppress(BrokenPipeError, ConnectionResetError):
            tool.stdin.close()
            await tool.stdin.wait_closed()
        code, words = await tool.ended()
    if code:
        raise errors.Internal(f"Failed to compress: {command.tool} ended with {code}: {words}")
