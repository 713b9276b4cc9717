"""What has to be done for a btrfs pool to be there. Pure: what is, comes in as facts.

A source is one of three things: nothing (a loop file is made), a block device (it is formatted), or a folder on a btrfs file system
(an empty subvolume of it is used). A file system's UUID stands for its device once it has been formatted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chassis import errors

GIB = 1024**3
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class LoopFile(NamedTuple):
    """A sparse file of that many bytes."""

    path: Path
    size: int


class Format(NamedTuple):
    """`uuid` "" lets mkfs draw one."""

    device: Path
    label: str
    uuid: str


class Subvolume(NamedTuple):
    path: Path


class MountDevice(NamedTuple):
    """`loop`: the device is a file."""

    source: str
    target: Path
    options: str
    loop: bool


class MountFolder(NamedTuple):
    source: Path
    target: Path


Change = LoopFile | Format | Subvolume | MountDevice | MountFolder


@dataclass(frozen=True, slots=True)
class Facts:
    """What the source is now. `fstype`: of what the folder lies on, or of what is on the block device, "" for nothing."""

    kind: str  # "block", "folder", "file", "uuid", "missing"
    fstype: str = ""
    label: str = ""
    uuid: str = ""
    empty: bool = True
    subvolume: bool = False
    mounted: bool = False  # something is mounted at the pool's place


def kind_of_name(source: str) -> str:
    """ "uuid" for what is no path."""
    return "uuid" if _UUID.fullmatch(source) else "path"


def default_size(free: int) -> int:
    """A fifth of what is free, between 5 and 30 GiB, whole GiB."""
    return min(max(free // 5 // GIB, 5), 30) * GIB


def plan_create(name: str, token: str, source: str, place: Path, size: int, options: str, facts: Facts) -> list[Change]:
    """Raises Internal when the source cannot be used. `token` is the UUID of what this very creation has formatted."""
    if facts.mounted:
        return []
    if facts.kind == "file":
        file = Path(source)
        return [LoopFile(file, size), Format(file, name, ""), *plan_open(source, place, options, facts)]
    if facts.kind == "block":
        ours = bool(token) and facts.uuid == token
        return [*([] if ours else [Format(Path(source), name, token)]), *plan_open(source, place, options, facts)]
    if facts.kind == "uuid":
        return plan_open(source, place, options, facts)
    return _plan_folder(Path(source), place, facts)


def _plan_folder(folder: Path, place: Path, facts: Facts) -> list[Change]:
    if folder != place and folder.is_relative_to(place.parent.parent):
        raise errors.Internal(f"Source path '{folder}' is within the LXD directory")
    if facts.fstype != "btrfs":
        raise errors.Internal("Provided path does not reside on a btrfs filesystem")
    if not facts.empty:
        raise errors.Internal("Requested btrfs subvolume exists but is not empty")
    if facts.kind == "missing":
        return [Subvolume(folder), *_plan_bind(folder, place, facts)]
    if not facts.subvolume:
        raise errors.Internal(f"Provided path '{folder}' is not a btrfs subvolume")
    return _plan_bind(folder, place, facts)


def _plan_bind(folder: Path, place: Path, facts: Facts) -> list[Change]:
    return [] if folder == place or facts.mounted else [MountFolder(folder, place)]


def plan_open(source: str, place: Path, options: str, facts: Facts) -> list[Change]:
    if facts.mounted:
        return []
    if facts.kind in ("block", "file", "uuid"):
        named = f"UUID={source}" if facts.kind == "uuid" else source
        return [MountDevice(named, place, options, loop=facts.kind == "file")]
    if facts.kind == "missing":
        raise errors.Internal(f"Source path '{source}' doesn't exist")
    return _plan_bind(Path(source), place, facts)
