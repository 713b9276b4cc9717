"""What drivers ask of the host: mounts, trees of files, atomic exchange. Nothing blocks the loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chassis import errors
from chassis.command import Command, Failed

RENAME_EXCHANGE = 2
AT_FDCWD = -100
LONG = 24 * 3600.0  # seconds; copying a large volume may take that long, a caller's deadline comes first
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo."""

    root: str
    target: str
    fstype: str
    source: str
    options: tuple[str, ...]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def mounts() -> list[Mount]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, (fstype, source, superblock) = before.split(), after.split()[:3]
        options = (*fields[5].split(","), *superblock.split(","))
        found.append(Mount(_unescaped(fields[3]), _unescaped(fields[4]), fstype, _unescaped(source), options))
    return found


def mounted_at(path: Path) -> Mount | None:
    """What is mounted exactly there, the topmost."""
    here = str(path)
    return next((mount for mount in reversed(mounts()) if mount.target == here), None)


async def mount(source: str | Path, target: Path, *arguments: str) -> None:
    await Command("mount", *arguments, "--", str(source), str(target)).run()


async def unmount(path: Path, patience: float = 10.0) -> None:
    """Unmount everything that is mounted there; what is busy is tried again for some seconds."""
    deadline = asyncio.get_running_loop().time() + patience
    while mounted_at(path) is not None:
        try:
            await Command("umount", "--", str(path)).run()
        except Failed:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)


async def copy_tree(source: Path, target: Path, *, bwlimit: int = 0) -> None:
    """Copy what is in a folder into another: owners, modes, times, links, attributes, holes; sharing blocks where that is possible.

    `bwlimit` in bytes a second, 0 = no limit.
    """
    if bwlimit:
        limit = f"--bwlimit={max(1, bwlimit // 1024)}"
        flags = ("-aHAXS", "--numeric-ids", "--devices", "--specials", limit)
        command = Command("rsync", *flags, "--", f"{source}/", f"{target}/")
    else:
        command = Command("cp", "-a", "--reflink=auto", "--", f"{source}/.", f"{target}/")
    try:
        await command.run(timeout=LONG)
    except Failed as failure:
        raise full_or(failure) from None


async def sync_tree(source: Path, target: Path) -> None:
    """Make a folder hold exactly what another holds."""
    flags = ("-aHAXS", "--numeric-ids", "--devices", "--specials", "--delete")
    try:
        await Command("rsync", *flags, "--", f"{source}/", f"{target}/").run(timeout=LONG)
    except Failed as failure:
        raise full_or(failure) from None


def full_or(failure: Failed) -> errors.Internal:
    """The failure, in LXD's words if the disk is full."""
    if "No space left on device" in failure.stderr or "Disk quota exceeded" in failure.stderr:
        return errors.Internal("Failed to copy, run out of disk space")
    return failure


async def remove_tree(*paths: Path) -> None:
    """Remove trees, and nothing of what may be mounted below them."""
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there:
        await Command("rm", "-rf", "--one-file-system", "--", *there).run(timeout=LONG)


def exchange(one: Path, other: Path) -> None:
    """Swap two names at once. Raises OSError."""
    raw = (os.fsencode(one), os.fsencode(other))
    if _libc.renameat2(AT_FDCWD, raw[0], AT_FDCWD, raw[1], RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def holds_only(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder is empty but for empty folders of these names: what a pool begins with."""
    known = frozenset(names)
    return all(path.name in known and not os.listdir(path) for path in folder.iterdir())


def leftovers(folders: Iterable[Path], prefixes: tuple[str, ...]) -> list[Path]:
    """What killed processes left in these folders, by the beginning of its name."""
    return [
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.name.startswith(prefixes)
    ]
