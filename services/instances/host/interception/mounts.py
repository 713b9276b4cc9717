"""The system calls about namespaces and mounts that Python has no name for, for the child that serves a call."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 428, 429, 430, 431, 432  # on every architecture
SYS_MOUNT_SETATTR, ATTR_IDMAP = 442, 0x100000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
TARGET, PASSAGE = b".target", b".passage"
AT_FDCWD, CLONE_NEWUSER = -100, 0x10000000
OPEN_TREE_CLONE, AT_EMPTY_PATH = 0x1, 0x1000
MOVE_FROM_FD_TO_FD = 0x44
SET_STRING, CREATE = 1, 6
CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """A system call. Raises OSError."""
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def check(found: int) -> None:
    """Of what the C library returned. Raises OSError."""
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def setns(space: int, kind: int) -> None:
    """Raises OSError."""
    check(_libc.setns(space, kind))


def enter(space: int) -> None:
    """Into a mount namespace; root and current folder are its root afterwards."""
    setns(space, CLONE_NEWNS)


def new(kind: str, **options: str) -> int:
    """A file system that is mounted nowhere yet; a descriptor of its root. Raises OSError."""
    made = call(SYS_FSOPEN, kind.encode(), 1)
    try:
        for name, value in options.items():
            call(SYS_FSCONFIG, made, SET_STRING, name.encode(), value.encode(), 0)
        call(SYS_FSCONFIG, made, CREATE, None, None, 0)
        return call(SYS_FSMOUNT, made, 1, 0)
    finally:
        os.close(made)


def of_a_node(mode: int, device: int, uid: int, gid: int) -> int:
    """A device node as something to mount, on a file system of its own where the kernel lets it be opened. Raises OSError."""
    home = new("tmpfs", size="4096", nr_inodes="2", mode="0700")
    try:
        os.mknod("node", stat.S_IFCHR | 0o600, device, dir_fd=home)
        os.chown("node", uid, gid, dir_fd=home)
        os.chmod("node", mode & 0o7777, dir_fd=home)
        return call(SYS_OPEN_TREE, home, b"node", OPEN_TREE_CLONE | os.O_CLOEXEC)
    finally:
        os.close(home)


class _FileSystem(ctypes.Structure):
    _fields_ = [("type", ctypes.c_long), ("rest", ctypes.c_long * 32)]  # of struct statfs


def is_of(file: int, kind: int) -> bool:
    """Whether a file lies on a file system of that magic number. Raises OSError."""
    found = _FileSystem()
    check(_libc.fstatfs(file, ctypes.byref(found)))
    return int(found.type) & 0xFFFFFFFF == kind


def wants_device(kind: bytes) -> bool:
    """Whether a file system lies on a block device. Raises OSError ENODEV for one that this kernel has not."""
    with open("/proc/filesystems", "rb") as lines:
        for line in lines:
            nodev, _, name = line.rstrip(b"\n").partition(b"\t")
            if name == kind:
                return not nodev
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def made_apart(source: bytes, device: int | None, kind: bytes, flags: int, data: bytes) -> int:
    """Mount a file system in a mount namespace of this process's own, on a root that holds nothing but its source: the device's node under
    the name that the caller gave it. A descriptor of it as something to mount. Raises OSError.
    """
    check(_libc.unshare(CLONE_NEWNS))
    check(_libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    home = new("tmpfs", size="64k", nr_inodes="64", mode="0700")
    move(home, os.open("/proc", os.O_PATH | os.O_CLOEXEC))
    os.fchdir(home)
    os.chroot(".")
    if device is not None:
        path = source if source.startswith(b"/") else b"/" + source
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mknod(path, stat.S_IFBLK | 0o600, device)
    os.mkdir(TARGET)
    check(_libc.mount(source, TARGET, kind, ctypes.c_ulong(flags), data or None))
    return call(SYS_OPEN_TREE, home, TARGET, OPEN_TREE_CLONE | os.O_CLOEXEC)


def handed_over(tree: int, users: int) -> int:
    """What is to be mounted as it comes out of a mount namespace of that user namespace: there none of its restrictions can be undone.
    This process is in both from now on. Raises OSError.
    """
    os.mkdir(PASSAGE)
    move(tree, os.open(PASSAGE, os.O_PATH | os.O_CLOEXEC))
    setns(users, CLONE_NEWUSER)
    check(_libc.unshare(CLONE_NEWNS))
    return call(SYS_OPEN_TREE, AT_FDCWD, PASSAGE, OPEN_TREE_CLONE | os.O_CLOEXEC)


def shift(tree: int, users: int) -> None:
    """Show the ids of what is to be mounted as those of a user namespace. Raises OSError."""
    attributes = struct.pack("=QQQQ", ATTR_IDMAP, 0, 0, users)
    call(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, ctypes.c_size_t(len(attributes)))


def move(tree: int, target: int) -> None:
    """Put what is mounted nowhere on a file or folder of the mount namespace that we are in. Raises OSError."""
    call(SYS_MOVE_MOUNT, tree, b"", target, b"", MOVE_FROM_FD_TO_FD)
