"""The calls that are carried out: for each its numbers, what of it can be told from the registers, and what it does.

Numbers are those of the kernel's tables by architecture (AUDIT_ARCH_*), since a process may be of a foreign one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.instances.host.interception.caller import Caller
from services.instances.host.interception.calls import bpf, mknod, mount, scheduler, setxattr
from services.instances.host.interception.message import Notification, Outcome

Do = Callable[[Caller], Outcome]
X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028

NUMBERS: Mapping[int, Mapping[int, str]] = {
    X86_64: {
        133: "mknod",
        259: "mknodat",
        188: "setxattr",
        189: "lsetxattr",
        144: "sched_setscheduler",
        165: "mount",
        321: "bpf",
    },
    I386: {
        14: "mknod",
        297: "mknodat",
        226: "setxattr",
        227: "lsetxattr",
        156: "sched_setscheduler",
        21: "mount",
        357: "bpf",
    },
    AARCH64: {33: "mknodat", 5: "setxattr", 6: "lsetxattr", 119: "sched_setscheduler", 40: "mount", 280: "bpf"},
    ARM: {14: "mknod", 324: "mknodat", 226: "setxattr", 227: "lsetxattr", 156: "sched_setscheduler", 21: "mount"},
}
DO: Mapping[str, Do] = {
    "mknod": mknod.mknod,
    "mknodat": mknod.mknodat,
    "setxattr": setxattr.setxattr,
    "lsetxattr": setxattr.lsetxattr,
    "sched_setscheduler": scheduler.set_scheduler,
    "mount": mount.mount,
    "bpf": bpf.bpf,
}
# Whether it may be wanted, by its registers: most of what a container tries in vain is told from them, at no cost.
SCREEN: Mapping[str, Callable[[tuple[int, ...]], bool]] = {
    "mknod": lambda arguments: mknod.is_allowed(arguments[1], arguments[2]),
    "mknodat": lambda arguments: mknod.is_allowed(arguments[2], arguments[3]),
    "mount": lambda arguments: mount.is_new(arguments[3]),
    "bpf": lambda arguments: bpf.is_wanted(arguments[0]),
}


def find(call: Notification) -> Do | None:
    """What serves it; None leaves it to the kernel."""
    name = NUMBERS.get(call.architecture, {}).get(call.number, "")
    screen = SCREEN.get(name)
    return DO.get(name) if screen is None or screen(call.arguments) else None
