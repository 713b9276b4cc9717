"""Which calls a container's configuration has intercepted: the lines of its filter, and what the keys must be. Pure.

The filter sees registers alone, so it holds up the calls that may be wanted and no more: of mknod those for devices, of setxattr those
with a value of one byte (`trusted.overlay.opaque` is "y").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from services.instances.host.idmap import TRUE

PREFIX = "security.syscalls.intercept."
CHARACTER, BLOCK, KIND = 0o020000, 0o060000, 0o170000
NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER: a filter of the container's own must not take the calls over
# Of the flags of mount all that make no new mount of a file system (but for those that its old magic number shares), and those of 64 bits.
OTHER_MOUNTS = 0xFFFFFFFF3C123320
NEW_MOUNTS = (
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "open_tree",
    "move_mount",
)  # what is new about them a filter cannot tell
BPF_COMMANDS = (5, 8, 9)  # load, attach, detach a program

NOTIFIED: Mapping[str, tuple[str, ...]] = {
    "mknod": (
        f"mknod notify [1,{CHARACTER},SCMP_CMP_MASKED_EQ,{KIND}]",
        f"mknod notify [1,{BLOCK},SCMP_CMP_MASKED_EQ,{KIND}]",
        f"mknodat notify [2,{CHARACTER},SCMP_CMP_MASKED_EQ,{KIND}]",
        f"mknodat notify [2,{BLOCK},SCMP_CMP_MASKED_EQ,{KIND}]",
    ),
    "setxattr": ("setxattr notify [3,1,SCMP_CMP_EQ]", "lsetxattr notify [3,1,SCMP_CMP_EQ]"),
    "sched_setscheduler": ("sched_setscheduler notify",),
    "bpf.devices": tuple(f"bpf notify [0,{command},SCMP_CMP_EQ]" for command in BPF_COMMANDS),
    "mount": (f"mount notify [3,0,SCMP_CMP_MASKED_EQ,{OTHER_MOUNTS}]", *(f"{name} errno 38" for name in NEW_MOUNTS)),
}


def intercepted(config: Mapping[str, str]) -> list[str]:
    """The names of the keys that are on; none for a privileged container, which needs nobody's help."""
    if _is_true(config, "security.privileged"):
        return []
    # "bpf.devices" counts together with "bpf" alone
    return [name for name in NOTIFIED if all(_is_true(config, PREFIX + part) for part in {name, name.split(".")[0]})]


def lines(config: Mapping[str, str]) -> Iterator[str]:
    """What the filter holds up."""
    found = intercepted(config)
    if found:
        yield f"seccomp errno 22 [1,{NEW_LISTENER},SCMP_CMP_MASKED_EQ,{NEW_LISTENER}]"
    for name in found:
        yield from NOTIFIED[name]


def _is_true(config: Mapping[str, str], key: str) -> bool:
    return config.get(key, "").lower() in TRUE
