"""The system calls about namespaces and mounts that Python has no name for, for the child that serves a call."""

from __future__ import annotations

import ctypes
import os
import stat

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 428, 429, 430, 431, 432  # on every architecture
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


def setns(space: int, kind: int) -> None:
    """Raises OSError."""
    if _libc.setns(space, kind) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


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


def move(tree: int, target: int) -> None:
    """Put what is mounted nowhere on a file or folder of the mount namespace that we are in. Raises OSError."""
    call(SYS_MOVE_MOUNT, tree, b"", target, b"", MOVE_FROM_FD_TO_FD)
