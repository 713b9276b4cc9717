"""The few system calls that Python has no name for. All raise OSError with the call's name."""

from __future__ import annotations

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_NET_BIND_SERVICE = 10
CAPABILITY_VERSION = 0x20080522
CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
M_ARENA_MAX = -8  # malloc.h
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def prctl(option: int, value: int, further: int = 0) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(further), 0, 0), "prctl")


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def keep_only(capabilities: tuple[int, ...]) -> None:
    """Give up all capabilities but these, as far as they are held; they also outlive an exec (they are ambient).

    Numbers as in capabilities(7), below 32.
    """
    header, sets = _Header(CAPABILITY_VERSION, 0), (_Sets * 2)()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(sets)), "capget")
    kept = [number for number in capabilities if sets[0].permitted >> number & 1]
    bits = sum(1 << number for number in kept)
    sets = (_Sets * 2)(_Sets(bits, bits, bits), _Sets())
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(sets)), "capset")
    for number in kept:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()),
        f"mount {source} on {target}",
    )


def unmount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """glibc has no wrapper for it, so it goes by number."""
    _check(_libc.syscall(PIVOT_ROOT[platform.machine()], new.encode(), old.encode()), "pivot_root")


def share_one_arena() -> None:
    """For this process and its forks: glibc otherwise opens a heap a thread, and Python runs one thread at a time anyway."""
    mallopt = getattr(_libc, "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
