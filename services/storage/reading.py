"""A container's volume as a stream: its metadata.yaml, then a tar of rootfs and templates."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from chassis import beneath, errors
from chassis.command import Command

PIECE = 1024 * 1024
METADATA = 1024 * 1024  # bytes
WORDS = 4096  # bytes of a complaint


def read_metadata(path: Path) -> bytes:
    """metadata.yaml of a mounted volume, empty if there is none. The container cannot reach it, the image made it."""
    try:
        with beneath.tree(path) as folder:
            return beneath.read_beneath(folder, "metadata.yaml", METADATA)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise errors.Internal(f"Failed to read metadata.yaml: {error.strerror}") from None


async def as_tar(path: Path) -> AsyncIterator[bytes]:
    """A tar of what lies in a mounted volume beside metadata.yaml and backup.yaml. Owners are numbers, as they are on the disk."""
    names = [name for name in ("rootfs", "templates") if os.path.lexists(path / name)]
    flags = (
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--sparse",
        "--one-file-system",
        "--format=posix",
    )
    command = Command("tar", "-C", str(path), *flags, "-cf", "-", "--", *names)
    process = await asyncio.create_subprocess_exec(
        *command.vector(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaint = asyncio.ensure_future(process.stderr.read(WORDS))
    try:
        while piece := await process.stdout.read(PIECE):
            yield piece
        code = await process.wait()
        if code > 1:  # 1: a file changed while it was read
            words = (await complaint).decode(errors="replace").strip()
            raise errors.Internal(f"Failed to read the volume: tar ended with {code}: {words}")
    finally:
        complaint.cancel()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
