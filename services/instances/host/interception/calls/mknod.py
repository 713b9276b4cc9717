"""mknod and mknodat of the devices that do no harm.

On the container's root file system a node is made. Others may have been mounted by the container itself, and there the kernel opens no
device: as LXD does, a node of the host is bound over an empty file instead.
"""

from __future__ import annotations

import errno
import os
import stat

from services.instances.host import capabilities
from services.instances.host.interception import mounts
from services.instances.host.interception.caller import AT_FDCWD, Caller, Denied
from services.instances.host.interception.message import DONE, Outcome

# null, zero, full, random, urandom, tty, console. (0:0, a whiteout, is made by the kernel itself.)
ALLOWED = frozenset(((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1)))


def device_of(encoded: int) -> tuple[int, int]:
    """Major and minor of a device number as system calls have it (32 bits)."""
    encoded &= 0xFFFFFFFF
    return (encoded >> 8) & 0xFFF, (encoded & 0xFF) | ((encoded >> 12) & 0xFFF00)


def is_allowed(mode: int, device: int) -> bool:
    return stat.S_ISCHR(mode & 0xFFFF) and device_of(device) in ALLOWED


def mknod(caller: Caller) -> Outcome:
    return _make(caller, AT_FDCWD, caller.argument(0), caller.argument(1), caller.argument(2))


def mknodat(caller: Caller) -> Outcome:
    return _make(caller, caller.signed(0), caller.argument(1), caller.argument(2), caller.argument(3))


def _make(caller: Caller, folder: int, address: int, mode: int, device: int) -> Outcome:
    """Raises Denied, OSError."""
    if not is_allowed(mode, device):
        raise Denied
    caller.need(capabilities.MKNOD)
    path = caller.text(address)
    head, name = split(path)
    parent = caller.find(caller.base(folder) if not path.startswith(b"/") else caller.open("root"), head)
    caller.still_waits()
    where = os.fstat(parent)
    made = stat.S_IFCHR | (mode & 0o7777), os.makedev(*device_of(device))
    if (
        where.st_dev == os.stat(f"/proc/{caller.call.init}/root").st_dev
        and not os.fstatvfs(parent).f_flag & os.ST_NODEV
    ):
        caller.as_itself(capabilities.MKNOD, files=caller.owns(where))
        os.mknod(name, *made, dir_fd=parent)
    else:
        _bind(caller, parent, name, *made)
    return DONE


def split(path: bytes) -> tuple[bytes, bytes]:
    """The folder and the name in it. Raises OSError as mknod does for what cannot be made."""
    head, slash, name = path.rpartition(b"/")
    if path and not path.strip(b"/"):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    if not name:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if name in (b".", b".."):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    return head + slash or b".", name


def _bind(caller: Caller, parent: int, name: bytes, mode: int, device: int) -> None:
    node = mounts.of_a_node(mode & ~int(caller.status["Umask"][0], 8), device, *caller.file_ids)
    caller.as_itself(files=caller.owns(os.fstat(parent)))
    target = os.open(name, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        capabilities.take_ids(0, 0)
        mounts.enter(caller.open("ns/mnt", os.O_RDONLY))
        mounts.move(node, target)
    except BaseException:
        os.unlink(name, dir_fd=parent)
        raise
