"""Isolation: id maps, privileges, what may be done to the instance and from within it."""

from __future__ import annotations

from typing import Any

from chassis.key_types import Bool, Str
from chassis.keys import Key
from services.instances.keys.texts import NotYet, Uint32

PRIVILEGED = Key("security.privileged", Bool, live=False, doc="Run with the host's ids")
NESTING = Key("security.nesting", Bool, doc="Allow containers inside")
IDMAP_ISOLATED = Key(
    "security.idmap.isolated", Bool, since="id_map", live=False, doc="An id range that no other instance has"
)
IDMAP_SIZE = Key("security.idmap.size", Uint32, since="id_map", live=False, doc="Length of the id range")
IDMAP_BASE = Key("security.idmap.base", Uint32, since="id_map_base", live=False, doc="First host id of the range")
PROTECTION_DELETE = Key(
    "security.protection.delete", Bool, since="container_protection_delete", doc="Refuse to delete it"
)
PROTECTION_SHIFT = Key(
    "security.protection.shift",
    NotYet(Bool, "false"),
    since="container_protection_shift",
    live=False,
    doc="Refuse to shift its files",
)
DEVLXD = Key(
    "security.devlxd",
    NotYet(Bool, "false", "0", "no", "off"),
    default="true",
    since="restrict_devlxd",
    doc="Offer /dev/lxd",
)
DEVLXD_IMAGES = Key(
    "security.devlxd.images", NotYet(Bool, "false"), since="devlxd_images", doc="Offer image downloads in /dev/lxd"
)

SYSCALL_SWITCHES = tuple(
    Key(f"security.syscalls.{name}", NotYet(Bool, "false"), live=False, doc=doc)
    for name, doc in (
        ("blacklist_compat", "Older name of deny_compat"),
        ("deny_compat", "Deny the calls of foreign architectures"),
        ("intercept.bpf", "Handle bpf on the host"),
        ("intercept.bpf.devices", "Allow device programs in the unified hierarchy"),
        ("intercept.mknod", "Handle mknod on the host"),
        ("intercept.mount", "Handle mount on the host"),
        ("intercept.mount.shift", "Shift what is mounted that way"),
        ("intercept.sched_setscheduler", "Handle sched_setscheduler on the host"),
        ("intercept.setxattr", "Handle setxattr on the host"),
        ("intercept.sysinfo", "Answer sysinfo from the limits"),
    )
)
SYSCALL_DEFAULTS = tuple(
    Key(f"security.syscalls.{name}", NotYet(Bool, "true"), default="true", live=False, doc=doc)
    for name, doc in (
        ("blacklist_default", "Older name of deny_default"),
        ("deny_default", "Deny the calls that no container should make"),
    )
)
SYSCALL_TEXTS = tuple(
    Key(f"security.syscalls.{name}", NotYet(Str), live=False, doc=doc)
    for name, doc in (
        ("allow", "The only calls that are allowed, one a line"),
        ("blacklist", "Older name of deny"),
        ("deny", "Calls that are denied, one a line"),
        ("intercept.mount.allowed", "File systems that may be mounted"),
        ("intercept.mount.fuse", "FUSE programs for file systems"),
        ("whitelist", "Older name of allow"),
    )
)

KEYS: tuple[Key[Any], ...] = (
    PRIVILEGED, NESTING, IDMAP_ISOLATED, IDMAP_SIZE, IDMAP_BASE, PROTECTION_DELETE, PROTECTION_SHIFT, DEVLXD, DEVLXD_IMAGES,
    *SYSCALL_SWITCHES, *SYSCALL_DEFAULTS, *SYSCALL_TEXTS,
)  # fmt: skip
