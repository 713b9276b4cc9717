"""Terminals for commands: from the container's own devpts, so that the command can name and reopen its terminal."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
import termios

from chassis import beneath
from chassis.errors import Internal
from services.instances.host.idmap import idmap_of_process
from services.instances.host.process import Watched

TIOCSPTLCK, TIOCGPTPEER = 0x40045431, 0x5441
PTMX = (5, 2)
DEVPTS_MAGIC = 0x1CD1
MODE = 0o620

_libc = ctypes.CDLL(None, use_errno=True)


def open_terminal(init: Watched, uid: int) -> tuple[int, int]:
    """Master and slave for a user of the container, both closed on exec, the master non-blocking.

    From the host's devpts where the container has none.
    """
    try:
        master, slave = _of_container(init, uid)
    except OSError:
        master, slave = os.openpty()
    os.set_blocking(master, False)
    return master, slave


def _of_container(init: Watched, uid: int) -> tuple[int, int]:
    """Raises OSError also when what stands there is no devpts."""
    seen = _seen(init, "dev/pts/ptmx")
    try:
        found = os.fstat(seen)
        if (
            not stat.S_ISCHR(found.st_mode)
            or (os.major(found.st_rdev), os.minor(found.st_rdev)) != PTMX
            or not _is_devpts(seen)
        ):
            raise OSError("not a devpts")
        master = os.open(f"/proc/self/fd/{seen}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(seen)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    try:
        idmap = idmap_of_process(init.pid)
        owner = uid if idmap is None else idmap.to_host("u", uid)
        if owner is not None:
            os.fchown(slave, owner, -1)
        os.fchmod(slave, MODE)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return master, slave


def _seen(init: Watched, path: str) -> int:
    """A descriptor to look at, of a path inside. Raises OSError."""
    root = init.open("root", os.O_PATH | os.O_DIRECTORY)
    try:
        return beneath.openat2(root, path, os.O_PATH, 0, beneath.INSIDE)
    finally:
        os.close(root)


def set_console_size(init: Watched, columns: int, rows: int) -> None:
    """Of a container's /dev/console. Raises Internal; a console that is no terminal of a devpts is left alone."""
    try:
        seen = _seen(init, "dev/console")
        try:
            if not stat.S_ISCHR(os.fstat(seen).st_mode) or not _is_devpts(seen):
                return
            console = os.open(f"/proc/self/fd/{seen}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(seen)
    except OSError as error:
        raise Internal(f"Failed to open the console: {error.strerror}") from None
    try:
        set_size(console, columns, rows)
    finally:
        os.close(console)


def _is_devpts(fd: int) -> bool:
    """By fstatfs: the file system's magic number is the first word of the answer."""
    answer = (ctypes.c_long * 32)()
    return int(_libc.fstatfs(fd, ctypes.byref(answer))) == 0 and answer[0] == DEVPTS_MAGIC


def set_size(terminal: int, columns: int, rows: int) -> None:
    """Raises Internal for what does not fit in 16 bits."""
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    except (struct.error, OSError) as error:
        raise Internal(f"Invalid terminal size {columns}x{rows}: {error}") from None
