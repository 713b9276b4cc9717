"""A container's volume as a stream: its metadata.yaml, then a tar of rootfs and templates."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from chassis import beneath, errors
from chassis.command import Command

PIECE = 1024 * 1024
METADATA = 1024 * 1024  # bytes
TAR_FLAGS = (
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--acls",
    "--sparse",
    "--one-file-system",
    "--format=posix",
)
"""Everything that a file of an instance is made of, with owners as they are on the disk."""


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
    command = Command("tar", "-C", str(path), *TAR_FLAGS, "-cf", "-", "--", *names)
    async with command.open() as tool:
        while piece := await tool.stdout.read(PIECE):
            yield piece
        code, words = await tool.ended()
    if code > 1:  # 1: a file changed while it was read
        raise errors.Internal(f"Failed to read the volume: tar ended with {code}: {words}")
