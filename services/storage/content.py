"""What a custom volume holds at first: nothing, or (content type block) a disk of a virtual machine as a sparse file."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

from chassis import errors
from services.storage.drivers import Driver, VolumeName
from services.storage.drivers.driver import Fill

DISK = "root.img"  # LXD's name


def make_content(content_type: str, size: int) -> Fill | None:
    """How a new volume is filled; None for an empty file system."""
    if content_type != "block":
        return None

    async def fill(work: Path) -> None:
        await asyncio.to_thread(_make_disk, work / DISK, size)

    return fill


def _make_disk(path: Path, size: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(file, size)
    finally:
        os.close(file)


async def resize_content(driver: Driver, volume: VolumeName, content_type: str, size: int) -> None:
    """Idempotent. `size` 0 means no limit. A disk only grows."""
    if content_type != "block":
        await driver.resize(volume, size)
        return
    disk = open_disk(await driver.mount(volume))
    try:
        now = os.fstat(disk).st_size
        if size and size < now:
            raise errors.Internal("Block volumes cannot be shrunk: Cannot be shrunk")
        if size > now:
            os.truncate(disk, size)
            await asyncio.to_thread(os.fsync, disk)
    finally:
        os.close(disk)


def open_disk(folder: Path) -> int:
    """A descriptor of the disk in a block volume, which may have come out of somebody's archive. Raises Internal unless it is a file."""
    try:
        disk = os.open(folder / DISK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise errors.Internal("The disk of the block volume is no regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(disk).st_mode):
        os.close(disk)
        raise errors.Internal("The disk of the block volume is no regular file")
    return disk
