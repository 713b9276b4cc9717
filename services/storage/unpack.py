"""An image's files into a folder, by tar and unsquashfs as child processes.

The archive is hostile until it is unpacked. What keeps it inside the folder: GNU tar refuses `..`, strips what makes a name absolute and
makes links that point out of the tree last of all, so nothing can be written through them; unsquashfs refuses names with separators.
Afterwards the parts that we ourselves open by name (rootfs, templates, metadata.yaml) are checked to be what they must be and no links,
and everything beside them is removed: there this server keeps files of its own (backup.yaml, how owners are shifted).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from chassis import errors
from chassis.archive import format_of
from chassis.command import Command, Failed

PARTS = frozenset({"rootfs", "templates", "metadata.yaml"})  # of an image; nothing else is taken over
UNPACKING = 4 * 3600.0  # seconds at most
FLAGS: dict[str, tuple[str, ...]] = {
    "tar": (),
    "tar.gz": ("--gzip",),
    "tar.bz2": ("--bzip2",),
    "tar.xz": ("--xz",),
    "tar.lzma": ("--lzma",),
    "tar.zst": ("--zstd",),
}


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of an image; a split one has a second."""

    meta: Path
    rootfs: Path | None = None


Unpack = Callable[[ImageFiles, Path], Awaitable[None]]


def in_user_namespace() -> bool:
    """Whether this process cannot make device nodes."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def command_for(kind: str, file: Path, target: Path, *, devices: bool) -> Command:
    """What unpacks a file of this format. `devices`: whether device nodes can be made; else those below dev are left out."""
    if kind == "squashfs":
        return Command("unsquashfs", "-f", "-n", "-d", str(target), str(file))
    if kind not in FLAGS:
        raise errors.Internal(f"Unsupported image format: {kind}")
    skipped = (
        ()
        if devices
        else (
            "--wildcards",
            "--exclude=dev/*",
            "--exclude=./dev/*",
            "--exclude=rootfs/dev/*",
            "--exclude=rootfs/./dev/*",
        )
    )
    places = ("--restrict", "--force-local", "-C", str(target), "--numeric-owner", "--xattrs-include=*")
    return Command("tar", *skipped, *places, *FLAGS[kind], "-xf", str(file))


async def unpack_file(file: Path, target: Path) -> None:
    """Raises Internal; what was unpacked until then stays for the caller to remove."""
    command = command_for(format_of(file), file, target, devices=not in_user_namespace())
    try:
        await command.run(timeout=UNPACKING)
    except Failed as failure:
        if "No space left on device" in failure.stderr or "Disk quota exceeded" in failure.stderr:
            raise errors.Internal("Unable to unpack image, run out of disk space") from None
        raise errors.Internal(f"Unpack failed: {_reason(failure)}") from None


def _reason(failure: Failed) -> str:
    """What the tool complained of, without the paths of this machine."""
    lines = [line for line in failure.stderr.splitlines() if line.strip() and "Exiting with failure" not in line]
    return "; ".join(lines[:5])[:1000] or failure.text


async def unpack_image(files: ImageFiles, target: Path) -> None:
    """A container image: `target` then holds rootfs, metadata.yaml and templates. Raises Internal when it is no such image."""
    await unpack_file(files.meta, target)
    if files.rootfs is not None:
        rootfs = target / "rootfs"
        if format_of(files.rootfs) == "qcow2":
            raise errors.Internal("The image is of a virtual machine and cannot be unpacked for a container")
        _refuse_unless_folder(rootfs)
        rootfs.mkdir(mode=0o755, exist_ok=True)
        await unpack_file(files.rootfs, rootfs)
    await asyncio.to_thread(check, target)


def _refuse_unless_folder(path: Path) -> None:
    """Nothing, or a real folder."""
    if os.path.lexists(path) and not stat.S_ISDIR(os.lstat(path).st_mode):
        raise errors.Internal(f"Unpack failed: {path.name} in the image is not a directory")


def check(target: Path) -> None:
    """What is opened by name later is there and no link, and there is nothing else. Blocks."""
    if not os.path.lexists(target / "rootfs"):
        raise errors.Internal("Image is missing a rootfs")
    for name in ("rootfs", "templates"):
        _refuse_unless_folder(target / name)
    metadata = target / "metadata.yaml"
    if not os.path.lexists(metadata) or not stat.S_ISREG(os.lstat(metadata).st_mode):
        raise errors.Internal("Image is missing a metadata.yaml that is a regular file")
    for entry in list(os.scandir(target)):
        if entry.name not in PARTS:
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
