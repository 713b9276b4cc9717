"""mount of file systems that the container's configuration allows: made where the container cannot interfere, put into its place then.

Device nodes on such a file system are never devices (nodev, and the container cannot undo that): it may hold any.
"""

from __future__ import annotations

import errno
import os
import stat

from services.instances.host import capabilities
from services.instances.host.interception import mounts, settings
from services.instances.host.interception.caller import AT_FDCWD, Caller, Denied
from services.instances.host.interception.calls import fuse
from services.instances.host.interception.message import DONE, Outcome

LONGEST_TYPE, LONGEST_DATA = 128, 4096
MAGIC, MAGIC_MASK = 0xC0ED0000, 0xFFFF0000  # of old: flags had to begin with it
READ_ONLY, NOSUID, NODEV, NOEXEC, NOATIME, NODIRATIME, RELATIME = 0x1, 0x2, 0x4, 0x8, 0x400, 0x800, 0x200000
SYNCHRONOUS, MANDLOCK, DIRSYNC, SILENT, STRICTATIME, LAZYTIME = 0x10, 0x40, 0x80, 0x8000, 0x1000000, 0x2000000
NEW = (
    READ_ONLY | NOSUID | NODEV | NOEXEC | NOATIME | NODIRATIME | RELATIME
    | SYNCHRONOUS | MANDLOCK | DIRSYNC | SILENT | STRICTATIME | LAZYTIME
)  # fmt: skip
HUGETLBFS = b"hugetlbfs"


def is_new(flags: int) -> bool:
    """Whether a file system is mounted anew: no bind mount, no move, no change of one that is there."""
    return not plain(flags) & ~NEW


def plain(flags: int) -> int:
    """Flags without their old magic number."""
    return flags & ~MAGIC_MASK if flags & MAGIC_MASK == MAGIC else flags


def mount(caller: Caller) -> Outcome:
    """Raises Denied, OSError."""
    caller.need(capabilities.SYS_ADMIN)
    flags = plain(caller.argument(3))
    kind = caller.text(caller.argument(2), LONGEST_TYPE) if caller.argument(2) else b""
    wanted = settings.read(caller.home)
    program = (wanted.fuse or {}).get(os.fsdecode(kind))
    if not is_new(flags) or (program is None and os.fsdecode(kind) not in wanted.allowed):
        raise Denied
    source = caller.text(caller.argument(0)) if caller.argument(0) else b"none"
    data = caller.text(caller.argument(4), LONGEST_DATA) if caller.argument(4) else b""
    if program is not None:
        return fuse.redirect(caller, program, source, caller.text(caller.argument(1)), flags, data)
    target = caller.find(caller.base(AT_FDCWD), caller.text(caller.argument(1)))
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    device = _device(caller, source, flags) if mounts.wants_device(kind) else None
    if kind == HUGETLBFS:
        data = shifted(data, caller)
    caller.still_waits()
    users, space = caller.open("ns/user", os.O_RDONLY), caller.open("ns/mnt", os.O_RDONLY)
    tree = mounts.made_apart(source, device, kind, flags | NODEV, data)
    if wanted.shift and device is not None:
        mounts.shift(tree, users)
    tree = mounts.handed_over(tree, users)
    mounts.enter(space)
    mounts.move(tree, target)
    return DONE


def _device(caller: Caller, source: bytes, flags: int) -> int:
    """The number of a block device that the caller may open itself. Raises OSError."""
    node = caller.find(caller.base(AT_FDCWD), source)
    found = os.fstat(node)
    if not stat.S_ISBLK(found.st_mode):
        raise OSError(errno.ENOTBLK, os.strerror(errno.ENOTBLK))
    caller.as_itself(files=caller.owns(found))
    try:
        how = os.O_RDONLY if flags & READ_ONLY else os.O_RDWR
        os.close(os.open(f"/proc/self/fd/{node}", how | os.O_NONBLOCK | os.O_CLOEXEC))
    finally:
        capabilities.take_ids(0, 0)
    return found.st_rdev


def shifted(data: bytes, caller: Caller) -> bytes:
    """Options in which uid= and gid= are the host's ids; they are the caller's if none are given."""
    users, groups = caller.file_ids
    options = {b"uid": b"%d" % users, b"gid": b"%d" % groups}
    for word in data.split(b","):
        name, equals, value = word.partition(b"=")
        if name in (b"uid", b"gid") and value.isdigit():
            host = caller.to_host("u" if name == b"uid" else "g", int(value))
            value = b"%d" % host if host is not None else b"-1"
        if name:
            options[name] = equals + value if name not in (b"uid", b"gid") else value
    return b",".join(name + (b"=" + value if name in (b"uid", b"gid") else value) for name, value in options.items())
