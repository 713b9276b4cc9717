"""Isolation: id maps, privileges, what may be done to the instance and from within it."""

from __future__ import annotations

from typing import Any

from chassis.key_types import Bool, NotYet, Str, Uint32
from chassis.keys import Key

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

SYNTAX = "container_syscall_filtering_allow_deny_syntax"
SYSCALL_SWITCHES = tuple(
    Key(f"security.syscalls.intercept.{name}", Bool, since=since, live=False, doc=doc)
    for name, since, doc in (
        ("mknod", "container_syscall_intercept", "Make harmless device nodes for it"),
        ("setxattr", "container_syscall_intercept", "Set trusted.overlay.opaque for it"),
        (
            "bpf",
            "container_syscall_intercept_bpf_devices",
            "Load and attach programs for it, of the kinds that are allowed",
        ),
        (
            "bpf.devices",
            "container_syscall_intercept_bpf_devices",
            "Allow programs that decide about devices, with bpf",
        ),
        ("mount", "container_syscall_intercept_mount", "Mount file systems for it"),
        (
            "sched_setscheduler",
            "container_syscall_intercept_sched_setscheduler",
            "Set scheduling policies of its processes for it",
        ),
    )
)
SYSCALL_FILTERS: tuple[Key[Any], ...] = (
    *(
        Key(f"security.syscalls.{name}", Bool, default=default, since=SYNTAX, live=False, doc=doc)
        for name, default, doc in (
            ("deny_default", "true", "Deny the calls that no container should make"),
            ("deny_compat", "", "Deny the calls of foreign architectures"),
            ("blacklist_default", "true", "Older name of deny_default"),
            ("blacklist_compat", "", "Older name of deny_compat"),
        )
    ),
    *(
        Key(f"security.syscalls.{name}", Str, since=SYNTAX, live=False, doc=doc)
        for name, doc in (
            ("allow", "The only calls that are allowed, one a line"),
            ("deny", "Calls that are denied, one a line"),
            ("whitelist", "Older name of allow"),
            ("blacklist", "Older name of deny"),
        )
    ),
)
SYSCALL_MOUNTS: tuple[Key[Any], ...] = (
    Key(
        "security.syscalls.intercept.mount.allowed",
        Str,
        since="container_syscall_intercept_mount",
        doc="File systems that the host's kernel mounts for it (nodev), as ext4,xfs: only for who may be trusted with that",
    ),
    Key(
        "security.syscalls.intercept.mount.shift",
        Bool,
        since="container_syscall_intercept_mount",
        doc="Show the ids on what is mounted for it as its own",
    ),
    Key(
        "security.syscalls.intercept.mount.fuse",
        Str,
        since="container_syscall_intercept_mount_fuse",
        doc="FUSE programs of its own that mount file systems instead, as ext4=fuse2fs,ntfs=ntfs-3g",
    ),
)

KEYS: tuple[Key[Any], ...] = (
    PRIVILEGED, NESTING, IDMAP_ISOLATED, IDMAP_SIZE, IDMAP_BASE, PROTECTION_DELETE, PROTECTION_SHIFT, DEVLXD, DEVLXD_IMAGES,
    *SYSCALL_SWITCHES, *SYSCALL_FILTERS, *SYSCALL_MOUNTS,
)  # fmt: skip
