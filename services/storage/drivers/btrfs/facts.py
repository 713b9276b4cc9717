"""What the source of a btrfs pool is at this moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chassis.command import Command
from services.storage.drivers import host
from services.storage.drivers.btrfs import subvolumes
from services.storage.drivers.btrfs.plan import Facts, kind_of_name
from services.storage.drivers.volume import LAYOUT


def source_kind(source: str) -> str:
    """ "uuid", "missing", "block", "folder" or "file"."""
    if kind_of_name(source) == "uuid":
        return "uuid"
    try:
        mode = os.stat(source).st_mode
    except OSError:
        return "missing"
    if stat.S_ISBLK(mode):
        return "block"
    return "folder" if stat.S_ISDIR(mode) else "file"


async def look(source: str, place: Path, *, loop: bool) -> Facts:
    """`loop`: the source is the pool's own loop file, whether it is there yet or not."""
    mounted = host.mounted_at(place) is not None
    kind = "file" if loop else source_kind(source)
    if kind == "block":
        fstype, label, uuid = await _signature(source)
        return Facts(kind, fstype, label, uuid, mounted=mounted)
    if kind in ("folder", "missing"):
        path = Path(source)
        there = path if kind == "folder" else path.parent
        empty = kind == "missing" or host.holds_only(path, LAYOUT)
        return Facts(kind, await _fstype(there), "", "", empty, subvolumes.is_subvolume(path), mounted)
    return Facts(kind, mounted=mounted)


async def _signature(device: str) -> tuple[str, str, str]:
    """Type, label and UUID of the file system on a device."""
    found = await Command("blkid", "-p", "-o", "export", "--", device).run(codes=(0, 2))
    values = dict(line.split("=", 1) for line in found.text.splitlines() if "=" in line)
    return values.get("TYPE", ""), values.get("LABEL", "").replace("\\", ""), values.get("UUID", "")


async def _fstype(path: Path) -> str:
    if not path.is_dir():
        return ""
    found = await Command("stat", "-f", "-c", "%T", "--", str(path)).run()
    return found.text.strip()
