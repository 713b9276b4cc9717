"""What this kernel and this liblxc can do, for `environment` of GET /1.0: a probe wherever one is harmless, else by the
kernel's version."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

LIBRARY = "liblxc.so.1"
LXC_FEATURES = (
    "cgroup2",
    "core_scheduling",
    "devpts_fd",
    "idmapped_mounts_v2",
    "mount_injection_file",
    "network_gateway_device_route",
    "network_ipvlan",
    "network_l2proxy",
    "network_phys_macvlan_mtu",
    "network_veth_router",
    "pidfd",
    "seccomp_allow_deny_syntax",
    "seccomp_notify",
    "seccomp_proxy_send_notify_fd",
)
SYS_SECCOMP, SYS_MOUNT_SETATTR = {"x86_64": 317, "aarch64": 277}, 442
SECCOMP_GET_ACTION_AVAIL, SECCOMP_RET_USER_NOTIF = 2, 0x7FC00000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def lxc_features() -> dict[str, str]:
    """By lxc_has_api_extension of the installed library."""
    try:
        library = ctypes.CDLL(LIBRARY)
        has = library.lxc_has_api_extension
    except (OSError, AttributeError):
        return dict.fromkeys(LXC_FEATURES, "false")
    has.restype = ctypes.c_bool
    return {name: _word(has(name.encode())) for name in LXC_FEATURES}


def kernel_features() -> dict[str, str]:
    """LXD's names; "true" or "false"."""
    probes: Mapping[str, bool] = {
        "idmapped_mounts": _has_idmapped_mounts(),
        "netnsid_getifaddrs": _has_target_netnsid(),
        "seccomp_listener": _seccomp_action(),
        "seccomp_listener_continue": _seccomp_action() and _seccomp_continues(),
        "shiftfs": "shiftfs" in _file_systems(),
        "uevent_injection": _injects_uevents(),
        "unpriv_fscaps": _has_namespaced_capabilities(),
    }
    return {name: _word(found) for name, found in probes.items()}


def _release() -> tuple[int, int]:
    """Of the kernel; for what cannot be probed without doing it."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _word(found: object) -> str:
    return "true" if found else "false"


def _file_systems() -> set[str]:
    with suppress(OSError):
        return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    return set()


def _has_idmapped_mounts() -> bool:
    """mount_setattr with a bad descriptor says EBADF where it exists."""
    libc = _libc()
    libc.syscall(ctypes.c_long(SYS_MOUNT_SETATTR), ctypes.c_int(-1), None, ctypes.c_uint(0), None, ctypes.c_size_t(0))
    return ctypes.get_errno() != errno.ENOSYS


def _has_target_netnsid() -> bool:
    """IFLA_TARGET_NETNSID in dumps came with 4.20."""
    return _release() >= (4, 20)


def _seccomp_action() -> bool:
    number = SYS_SECCOMP.get(os.uname().machine)
    if number is None:
        return False
    action = ctypes.c_uint32(SECCOMP_RET_USER_NOTIF)
    return int(_libc().syscall(ctypes.c_long(number), SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action))) == 0


def _seccomp_continues() -> bool:
    """SECCOMP_USER_NOTIF_FLAG_CONTINUE came with 5.5."""
    return _release() >= (5, 5)


def _injects_uevents() -> bool:
    """Since 4.17 a uevent may be sent by netlink; the ownership of namespaced uevents came along."""
    return Path("/sys/kernel/uevent_seqnum").exists() and _release() >= (4, 17)


def _has_namespaced_capabilities() -> bool:
    """A version 3 security.capability can be stored (4.14)."""
    value = b"\x01\x00\x00\x03" + b"\x20\x00\x00\x00" + b"\x00" * 12 + (1_000_000).to_bytes(4, "little")
    with tempfile.NamedTemporaryFile() as file:
        with suppress(OSError):
            os.setxattr(file.name, "security.capability", value)
            return True
    return False
