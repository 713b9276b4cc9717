"""What `GET /1.0` tells about the machine: kernel, liblxc, operating system. Looked up, never assumed, once a process."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

LXC_FEATURES = (
    "mount_injection_file", "seccomp_notify", "network_ipvlan", "network_l2proxy", "network_gateway_device_route",
    "network_phys_macvlan_mtu", "network_veth_router", "cgroup2", "pidfd", "seccomp_allow_deny_syntax", "devpts_fd",
    "seccomp_proxy_send_notify_fd", "idmapped_mounts_v2", "core_scheduling",
)  # fmt: skip
PERSONALITIES = {"x86_64": ("x86_64", "i686"), "aarch64": ("aarch64", "armv7l"), "ppc64": ("ppc64", "ppc")}
SYSCALLS = {"x86_64": {"seccomp": 317}, "aarch64": {"seccomp": 277}}
MOUNT_SETATTR = 442
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_RET_USER_NOTIF = 0x7FC00000
ENOSYS = 38


@cache
def kernel() -> dict[str, str]:
    """Name, release and architecture of the running kernel."""
    found = os.uname()
    return {"kernel": found.sysname, "kernel_version": found.release, "kernel_architecture": found.machine}


def architectures() -> list[str]:
    machine = os.uname().machine
    return list(PERSONALITIES.get(machine, (machine,)))


def _at_least(*version: int) -> bool:
    """Whether the kernel is this version or newer."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return bool(found) and tuple(int(part) for part in found.groups()) >= version  # type: ignore[union-attr]


def _has_idmapped_mounts() -> bool:
    """The call is there if it complains about its arguments."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(MOUNT_SETATTR, -1, None, 0, None, 0)
    return ctypes.get_errno() != ENOSYS


def _has_seccomp_listener() -> bool:
    number = SYSCALLS.get(os.uname().machine, {}).get("seccomp")
    if number is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    action = ctypes.c_uint32(SECCOMP_RET_USER_NOTIF)
    return bool(libc.syscall(number, SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0)


def _has_shiftfs() -> bool:
    return "shiftfs" in Path("/proc/filesystems").read_text().split()


# The last three cannot be asked for without doing them: the kernel that brought each is what counts.
KERNEL_FEATURES: dict[str, Callable[[], bool]] = {
    "idmapped_mounts": _has_idmapped_mounts,
    "netnsid_getifaddrs": lambda: _at_least(4, 20),
    "seccomp_listener": _has_seccomp_listener,
    "seccomp_listener_continue": lambda: _has_seccomp_listener() and _at_least(5, 5),
    "shiftfs": _has_shiftfs,
    "uevent_injection": lambda: _at_least(4, 18),
    "unpriv_fscaps": lambda: _at_least(4, 14),
}


@cache
def kernel_features() -> dict[str, str]:
    return {name: "true" if found() else "false" for name, found in sorted(KERNEL_FEATURES.items())}


@cache
def liblxc() -> ctypes.CDLL | None:
    """The library that the instances service uses, only to be asked what it can."""
    with suppress(OSError):
        library = ctypes.CDLL("liblxc.so.1")
        library.lxc_get_version.restype = ctypes.c_char_p
        library.lxc_has_api_extension.restype = ctypes.c_bool
        library.lxc_has_api_extension.argtypes = [ctypes.c_char_p]
        return library
    return None


@cache
def lxc_version() -> str:
    """ "5.0.2"; empty when there is no liblxc."""
    library = liblxc()
    return library.lxc_get_version().decode() if library else ""


@cache
def lxc_features() -> dict[str, str]:
    library = liblxc()
    if library is None:
        return {}
    return {name: "true" if library.lxc_has_api_extension(name.encode()) else "false" for name in sorted(LXC_FEATURES)}


@cache
def system(root: Path = Path("/")) -> tuple[str, str]:
    """Name and version of the distribution, from os-release."""
    for place in ("etc/os-release", "usr/lib/os-release"):
        with suppress(OSError):
            fields = dict(_assignments((root / place).read_text()))
            return fields.get("NAME", ""), fields.get("VERSION_ID", "")
    return "", ""


def _assignments(text: str) -> list[tuple[str, str]]:
    lines = (line.partition("=") for line in text.splitlines() if "=" in line)
    return [(name.strip(), value.strip().strip("\"'")) for name, _, value in lines]
