"""Gives a tree's files other owners: `python -I -S shifter.py FOLDER` with the two maps as JSON on stdin. Never imported by the service.

For file systems without idmapped mounts. Owners, POSIX ACLs and file capabilities are carried over; an id that the old map does not have
stays. May be cut off and run again: what has its new owner already is left alone. Mount points below the tree are not entered.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

ACLS = ("system.posix_acl_access", "system.posix_acl_default")
CAPABILITY = "security.capability"
ACL_HEAD, ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
ACL_USER, ACL_GROUP = 0x02, 0x08
REVISION_MASK, REVISION_2, REVISION_3 = 0xFF000000, 0x02000000, 0x03000000
CAPABILITY_2 = 20  # bytes; version 3 has the id of the namespace's root after them
Ranges = list[dict[str, Any]]
Shift = Callable[[str, int], int]


def shifter(old: Ranges, new: Ranges) -> Shift:
    """From host id to host id, by kind ("u" or "g"). An empty map stands for the ids themselves."""

    def find(ranges: Ranges, kind: str, ident: int, source: str, target: str) -> int | None:
        if not ranges:
            return ident
        flag = "Isuid" if kind == "u" else "Isgid"
        for r in ranges:
            if r[flag] and r[source] <= ident < r[source] + r["Maprange"]:
                return int(r[target] + ident - r[source])
        return None

    def shift(kind: str, ident: int) -> int:
        if new and find(new, kind, ident, "Hostid", "Nsid") is not None:
            return ident  # done before
        inside = find(old, kind, ident, "Hostid", "Nsid")
        outside = None if inside is None else find(new, kind, inside, "Nsid", "Hostid")
        return ident if outside is None else outside

    return shift


def shifted_acl(value: bytes, shift: Shift) -> bytes:
    """An ACL's bytes with the ids of named users and groups shifted."""
    entries = [ACL_ENTRY.unpack_from(value, at) for at in range(ACL_HEAD.size, len(value), ACL_ENTRY.size)]
    kinds = {ACL_USER: "u", ACL_GROUP: "g"}
    moved = [(tag, mode, shift(kinds[tag], ident) if tag in kinds else ident) for tag, mode, ident in entries]
    return value[: ACL_HEAD.size] + b"".join(ACL_ENTRY.pack(*entry) for entry in moved)


def shifted_capability(value: bytes, root: int) -> bytes:
    """File capabilities that hold in the namespace whose root is that host id (0: the host's own)."""
    magic = int.from_bytes(value[:4], "little")
    if magic & REVISION_MASK not in (REVISION_2, REVISION_3):
        return value
    flags = magic & ~REVISION_MASK
    revision = REVISION_3 if root else REVISION_2
    body = (flags | revision).to_bytes(4, "little") + value[4:CAPABILITY_2]
    return body + (root.to_bytes(4, "little") if root else b"")


def entries(folder: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Everything below, as (descriptor of its folder, name, lstat); a folder comes after what it holds."""
    device = os.fstat(folder).st_dev
    with os.scandir(folder) as names:
        found = sorted(entry.name for entry in names)
    for name in found:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if info.st_dev != device:
            continue
        if stat.S_ISDIR(info.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                yield from entries(below)
            finally:
                os.close(below)
        yield folder, name, info


def attributes(path: str, shift: Shift, root: int) -> list[tuple[str, bytes]]:
    """The extended attributes to set again after the owner has changed (which drops capabilities)."""
    found: list[tuple[str, bytes]] = []
    for name in (*ACLS, CAPABILITY):
        try:
            value = os.getxattr(path, name)
        except OSError:
            continue
        found.append((name, shifted_capability(value, root) if name == CAPABILITY else shifted_acl(value, shift)))
    return found


def give(folder: int, name: str, info: os.stat_result, shift: Shift, root: int) -> None:
    owner = shift("u", info.st_uid), shift("g", info.st_gid)
    if owner == (info.st_uid, info.st_gid):
        return
    if stat.S_ISLNK(info.st_mode):
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
        return
    seen = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        path = f"/proc/self/fd/{seen}"
        kept = attributes(path, shift, root)
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
        if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(path, stat.S_IMODE(info.st_mode))
        for key, value in kept:
            os.setxattr(path, key, value)
    finally:
        os.close(seen)


def run(path: str, old: Ranges, new: Ranges) -> None:
    shift = shifter(old, new)
    root = shift("u", old[0]["Hostid"] if old else 0) if new else 0
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    linked: set[int] = set()
    for folder, name, info in entries(top):
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            if info.st_ino in linked:
                continue
            linked.add(info.st_ino)
        give(folder, name, info, shift, root)
    parent = os.open(os.path.dirname(os.path.abspath(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    give(parent, os.path.basename(os.path.abspath(path)), os.fstat(top), shift, root)


if __name__ == "__main__":
    maps = json.load(sys.stdin)
    run(sys.argv[1], maps["old"], maps["new"])
