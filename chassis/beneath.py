"""The one way to open a path below a tree that somebody else controls (an instance's rootfs, an image, a
backup).

`openat2` keeps the kernel inside the tree while it resolves, so there is no moment between check and use. Two
rules: `inside` treats the tree as "/" (absolute symlinks and `..` stay within: what a process in the
container would reach); `beneath` follows no symlink at all and refuses whatever would leave (what the service
itself does to a tree).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
TRIES = 16  # the kernel answers EAGAIN when the tree is moved about meanwhile

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(folder: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = BENEATH) -> int:
    """A descriptor, closed on exec.

    `folder` is a descriptor of the tree. Raises OSError; EXDEV or ELOOP for an escape.
    """
    raw = os.fsencode(path) or b"."
    if b"\0" in raw:
        raise OSError(errno.EINVAL, "a path cannot hold a NUL byte", os.fsdecode(raw))
    creates = flags & (os.O_CREAT | os.O_TMPFILE)
    how = _How(flags | os.O_CLOEXEC, mode if creates else 0, resolve)
    for attempt in range(TRIES):
        found = int(_libc.syscall(SYS_OPENAT2, folder, raw, ctypes.byref(how), ctypes.sizeof(how)))
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR) or attempt == TRIES - 1:
            raise OSError(number, os.strerror(number), os.fsdecode(raw))
    raise AssertionError("unreachable")


@contextmanager
def tree(path: str | os.PathLike[str]) -> Iterator[int]:
    """A descriptor of a tree that is our own path."""
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def open_inside(folder: int, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open as a process whose root is the tree would.

    Never blocks on a FIFO (O_NONBLOCK is added for reading).
    """
    return openat2(folder, path.lstrip("/") or ".", flags | os.O_NONBLOCK | os.O_NOCTTY, mode, INSIDE)


def open_beneath(folder: int, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open a relative path without following any symlink."""
    return openat2(folder, path, flags | os.O_NOCTTY, mode, BENEATH)


@contextmanager
def parent_inside(folder: int, path: str) -> Iterator[tuple[int, str]]:
    """The folder that holds `path` and the last part of its name, for what acts on a name: mkdir, symlink,
    unlink, rename.

    Raises OSError EINVAL for a path without a last name ("/", "..").
    """
    head, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    found = openat2(folder, head.lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY, 0, INSIDE)
    try:
        yield found, name
    finally:
        os.close(found)


def stat_inside(folder: int, path: str) -> os.stat_result:
    """lstat of what a process inside would see (the last part is not followed)."""
    if path.strip("/") in ("", "."):
        return os.stat(folder)
    with parent_inside(folder, path) as (parent, name):
        return os.stat(name, dir_fd=parent, follow_symlinks=False)


def read_beneath(folder: int, path: str, most: int) -> bytes:
    """A regular file's content, at most `most` bytes (more raises OSError EFBIG)."""
    found = open_beneath(folder, path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(found, "rb") as file:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data
