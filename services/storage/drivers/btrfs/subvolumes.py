"""Subvolumes and their qgroups, through btrfs-progs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from chassis.command import Command, Failed
from services.storage.drivers.driver import Usage

ROOT_INODE = 256  # every subvolume's own folder has this inode number


async def _btrfs(*arguments: str) -> str:
    return (await Command("btrfs", *arguments).run(timeout=600.0)).text


async def version() -> str:
    """ "6.2" """
    found = re.search(r"v?(\d+\.\d+(?:\.\d+)?)", await _btrfs("--version"))
    return found[1] if found else "unknown"


def is_subvolume(path: Path) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_ino == ROOT_INODE and found.st_dev != os.lstat(path.parent).st_dev


async def create(path: Path) -> None:
    await _btrfs("subvolume", "create", "--", str(path))


async def snapshot(source: Path, target: Path, *, readonly: bool) -> None:
    flags = ("-r",) if readonly else ()
    await _btrfs("subvolume", "snapshot", *flags, "--", str(source), str(target))


async def freeze(path: Path) -> None:
    """Make it read-only."""
    await _btrfs("property", "set", "-ts", str(path), "ro", "true")


async def thaw(path: Path) -> None:
    await _btrfs("property", "set", "-f", "-ts", str(path), "ro", "false")


async def below(path: Path) -> list[Path]:
    """Subvolumes anywhere below a folder, the deepest first. Walks folders only, and crosses into subvolumes alone."""
    found: list[Path] = []
    for folder, names, _ in os.walk(path):
        found += [Path(folder, name) for name in names if is_subvolume(Path(folder, name))]
    return sorted(found, key=lambda p: len(p.parts), reverse=True)


async def delete(path: Path) -> None:
    """With the subvolumes that the container itself may have made in it, and their qgroups."""
    try:
        await _delete_one(path)
    except Failed:
        for inner in await below(path):
            await _delete_one(inner)
        with suppress(Failed):
            await thaw(path)
        await _delete_one(path)


async def _delete_one(path: Path) -> None:
    group = await _group_of(path)
    await _btrfs("subvolume", "delete", "--", str(path))
    if group:
        with suppress(Failed):
            await _btrfs("qgroup", "destroy", group, str(path.parent))


async def enable_quota(path: Path) -> None:
    """Without quotas the pool works too, only limits and figures are missing."""
    with suppress(Failed):
        await _btrfs("quota", "enable", str(path))


async def _group_of(path: Path) -> str:
    """The qgroup "0/257" of a subvolume, "" without quotas."""
    try:
        text = await _btrfs("inspect-internal", "rootid", str(path))
    except Failed:
        return ""
    return f"0/{text.strip()}"


async def usage(path: Path) -> Usage | None:
    """Bytes that are this subvolume's alone, and the limit of all that it refers to."""
    try:
        text = await _btrfs("qgroup", "show", "-ref", "--raw", "--sync", str(path))
    except Failed:
        return None
    group = await _group_of(path)
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and words[0] == group:
            return Usage(int(words[2]), 0 if words[3] == "none" else int(words[3]))
    return None


async def limit(path: Path, size: int) -> None:
    """Limit what it refers to, 0 = no limit."""
    await _btrfs("qgroup", "limit", str(size) if size else "none", str(path))


async def uuid_of(device: str) -> str:
    """The UUID of the file system on a device, if the device can be found by it."""
    found = (await Command("blkid", "-p", "-s", "UUID", "-o", "value", "--", device).run(codes=(0, 2))).text.strip()
    return found if found and Path(f"/dev/disk/by-uuid/{found}").exists() else ""
