"""With which rights a thread acts: the ids that it makes files as, and which of its capabilities are in effect."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID = 0, 1, 2, 3, 4
NET_ADMIN, SYS_ADMIN, SYS_NICE, MKNOD, BPF = 12, 21, 23, 27, 39
FILES = frozenset((DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER))
VERSION = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def take_ids(uid: int, gid: int, wanted: Iterable[int] | None = None) -> None:
    """Make this thread create files as these ids, with all the capabilities that it has, or those of `wanted`. Raises OSError."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    use(wanted)


def use(wanted: Iterable[int] | None = None) -> None:
    """Put all of this thread's capabilities into effect, or those of `wanted` that it has; it keeps the others. Raises OSError."""
    header, sets = _Header(VERSION, 0), (_Sets * 2)()
    if _libc.capget(ctypes.byref(header), ctypes.byref(sets)) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    mask = (1 << 64) - 1 if wanted is None else sum(1 << number for number in set(wanted))
    for number, half in enumerate(sets):
        half.effective = half.permitted & (mask >> (32 * number))
    if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
