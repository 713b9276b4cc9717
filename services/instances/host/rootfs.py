"""Whose ids a rootfs has on disk: those of the inside wherever the file system can be mounted with shifted ids, else the container's.

What is not the usual case (ids of the inside) is written down beside the rootfs, in the volume, and so moves along with its copies.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from chassis import beneath
from chassis.errors import Internal
from services.instances.host.hotplug import ATTR_IDMAP, OPEN_TREE_CLONE, SYS_MOUNT_SETATTR, SYS_OPEN_TREE
from services.instances.host.idmap import IdMap

RECORD = "idmap.json"  # {"disk": map on disk, "towards": map that a shift was under way to}
MOST = 64 * 1024  # bytes of it
SHIFTER = Path(__file__).with_name("shifter.py")
PROBE_MAP = b"0 1000000 1\n"
AT_EMPTY_PATH = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)
_mappable: dict[int, bool] = {}  # by device number


def disk_map(volume: Path) -> IdMap | None:
    """The map that the files of a mounted volume are owned by; None: their ids are those of the inside."""
    return _maps(volume)[0]


def _maps(volume: Path) -> tuple[IdMap | None, IdMap | None]:
    try:
        with beneath.tree(volume) as folder:
            found = json.loads(beneath.read_beneath(folder, RECORD, MOST))
    except OSError:
        return None, None
    except ValueError:
        raise Internal(f"{volume / RECORD} cannot be read") from None
    both = [IdMap.from_json(json.dumps(found.get(name) or [])) for name in ("disk", "towards")]
    disk, towards = (found if found.ranges else None for found in both)
    return disk, towards if "towards" in found else disk


async def settle(volume: Path, idmap: IdMap | None) -> bool:
    """Make a volume ready for a start with a map; whether its rootfs is to be mounted with shifted ids. Raises Internal.

    A shift of owners that was cut off is taken up again.
    """
    mapped = idmap is not None and await asyncio.to_thread(idmappable, volume / "rootfs")
    wanted = None if mapped else idmap
    disk, towards = _maps(volume)
    if towards != disk:
        await _shift(volume, disk, towards)
        disk = towards
    if disk != wanted:
        await _shift(volume, disk, wanted)
    # The volume is closed to all but its owner, and whoever opens the rootfs without shifted ids is the container's own root.
    os.chown(volume, (wanted.to_host("u", 0) or 0) if wanted is not None else 0, -1)
    return mapped


async def _shift(volume: Path, disk: IdMap | None, towards: IdMap | None) -> None:
    maps = {"old": _ranges(disk), "new": _ranges(towards)}
    _record(volume, {"disk": maps["old"], "towards": maps["new"]})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(SHIFTER), str(volume / "rootfs"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={"LANG": "C.UTF-8"},
    )  # fmt: skip
    try:
        _, complaint = await process.communicate(json.dumps(maps).encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise Internal(
            f"Failed to shift the owners of {volume / 'rootfs'}: {complaint.decode(errors='replace')[-500:]}"
        )
    if towards is None:
        (volume / RECORD).unlink(missing_ok=True)
    else:
        _record(volume, {"disk": maps["new"]})


def _ranges(idmap: IdMap | None) -> list[object]:
    return list(json.loads(idmap.to_json())) if idmap is not None else []


def _record(volume: Path, content: dict[str, object]) -> None:
    """Written whole or not at all."""
    fresh = volume / f"{RECORD}.new"
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(volume / RECORD)


def idmappable(path: Path) -> bool:
    """Whether the file system of a folder can be mounted with shifted ids; tried once for each. Blocks for some milliseconds."""
    device = path.stat().st_dev
    if device not in _mappable:
        _mappable[device] = _try(path)
    return _mappable[device]


def _try(path: Path) -> bool:
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.stdout.readline()  # it is in its namespace now
        try:
            for file in ("uid_map", "gid_map"):
                Path(f"/proc/{holder.pid}/{file}").write_bytes(PROBE_MAP)
            space = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _mounts(path, space)
        finally:
            os.close(space)


def _mounts(path: Path, space: int) -> bool:
    tree = int(_libc.syscall(ctypes.c_long(SYS_OPEN_TREE), -100, os.fsencode(path), OPEN_TREE_CLONE | os.O_CLOEXEC))
    if tree < 0:
        return False
    try:
        attributes = (ctypes.c_uint64 * 4)(ATTR_IDMAP, 0, 0, space)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        number = ctypes.c_long(SYS_MOUNT_SETATTR)
        return int(_libc.syscall(number, tree, b"", AT_EMPTY_PATH, ctypes.byref(attributes), size)) == 0
    finally:
        os.close(tree)
