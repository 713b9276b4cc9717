"""What a restricted project forbids its instances: the meaning of a project's `restricted.*` keys, for every service that needs it.

Judged is the merged configuration, profiles and all, so it makes no difference how something came to be there. The sentences are LXD's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chassis.errors import Internal
from chassis.key_types import FALSE, is_true

Texts = Mapping[str, str]
Devices = Mapping[str, Texts]

BLOCK, ALLOW, MANAGED = "block", "allow", "managed"
UNPRIVILEGED, ISOLATED = "unprivileged", "isolated"
# What holds in a restricted project where a key is not set.
DEFAULTS = {
    "restricted.containers.privilege": UNPRIVILEGED,
    "restricted.devices.disk": MANAGED,
    "restricted.devices.nic": MANAGED,
}
LOW_LEVEL = frozenset(
    {
        "boot.host_shutdown_timeout", "limits.memory.swap", "linux.kernel_modules", "raw.apparmor", "raw.lxc", "raw.seccomp",
        "security.devlxd.images", "security.idmap.base", "security.idmap.size",
    }
)  # fmt: skip
INTERCEPTION = "security.syscalls.intercept."
# Interceptions that `restricted.containers.interception` may allow; the others reach into the host and count as low-level.
INTERCEPTABLE = frozenset(
    INTERCEPTION + name for name in ("bpf", "bpf.devices", "mknod", "mount", "mount.fuse", "setxattr")
)
DEVICES = {
    "gpu": "GPU devices", "infiniband": "Infiniband devices", "pci": "PCI devices", "proxy": "Proxy devices",
    "unix-block": "Unix block devices", "unix-char": "Unix character devices", "unix-hotplug": "Unix hotplug devices",
    "usb": "USB devices",
}  # fmt: skip


def restricts(project: Texts) -> bool:
    return is_true(project.get("restricted", ""))


def setting(project: Texts, key: str) -> str:
    return project.get(key) or DEFAULTS.get(key, BLOCK)


def refuse(project: Texts, name: str, what: str) -> None:
    """`what` is "snapshot" or "backup" of an instance or a custom volume. Raises Internal, as LXD does, where it is not allowed."""
    if restricts(project) and setting(project, f"restricted.{what}s") != ALLOW:
        raise Internal(f'Project "{name}" doesn\'t allow for {what} creation')


def refusals(project: Texts, name: str, owner: str, config: Texts, devices: Devices) -> Iterator[str]:
    """A sentence for each thing that the project forbids. `name` is the project's, `owner` whose things these are: 'container "c1"'."""
    if not restricts(project):
        return
    where = f'on {owner} of project "{name}"'
    for key, text in sorted(config.items()):
        if reason := _key(project, key, text, where):
            yield reason
    if setting(project, "restricted.containers.privilege") == ISOLATED and not is_true(
        config.get("security.idmap.isolated", "")
    ):
        yield f'Invalid value "" for config "security.idmap.isolated" {where}: Non-isolated containers are forbidden'
    for device, given in sorted(devices.items()):
        if reason := _device(project, given):
            yield f'Invalid device "{device}" {where}: {reason}'


def _key(project: Texts, key: str, text: str, where: str) -> str:
    if key == "raw.idmap":
        return _raw_idmap(project, text, where)
    if key in LOW_LEVEL or (key.startswith(INTERCEPTION) and key not in INTERCEPTABLE):
        low = setting(project, "restricted.containers.lowlevel")
        return "" if low == ALLOW else f'Use of low-level config "{key}" {where} is forbidden'
    if text.lower() in FALSE:
        return ""
    reason = _flag(project, key)
    return f'Invalid value "{text}" for config "{key}" {where}: {reason}' if reason else ""


def _flag(project: Texts, key: str) -> str:
    """Why a switch may not be on."""
    if key == "security.nesting" and setting(project, "restricted.containers.nesting") != ALLOW:
        return "Container nesting is forbidden"
    if key == "security.privileged" and setting(project, "restricted.containers.privilege") != ALLOW:
        return "Privileged containers are forbidden"
    if key in INTERCEPTABLE and setting(project, "restricted.containers.interception") != ALLOW:
        return "Container syscall interception is forbidden"
    return ""


def _device(project: Texts, given: Texts) -> str:
    type_ = given.get("type", "")
    if type_ in DEVICES:
        allowed = setting(project, f"restricted.devices.{type_}") == ALLOW
        return "" if allowed else f"{DEVICES[type_]} are forbidden"
    if type_ == "nic":
        return _nic(setting(project, "restricted.devices.nic"), given)
    if type_ == "disk":
        return _disk(project, given)
    return ""


def _nic(wanted: str, given: Texts) -> str:
    if wanted == BLOCK:
        return "Network devices are forbidden"
    if wanted == MANAGED and not given.get("network"):
        return "Only managed network devices are allowed"
    return ""


def _disk(project: Texts, given: Texts) -> str:
    """The root disk is always allowed; a disk without a pool is a path of the host."""
    wanted = setting(project, "restricted.devices.disk")
    if given.get("path") == "/" and not given.get("source"):
        return ""
    if wanted == BLOCK:
        return "Disk devices are forbidden"
    if given.get("pool"):
        return ""
    return "Attaching disks not backed by a pool is forbidden" if wanted == MANAGED else ""


def _raw_idmap(project: Texts, text: str, where: str) -> str:
    if setting(project, "restricted.containers.lowlevel") == ALLOW:
        return ""
    for number, line in enumerate(line for line in text.splitlines() if line.strip()):
        kind, *ranges = line.split()
        for which in ("uid", "gid") if kind == "both" else (kind,):
            if not ranges or not _covered(ranges[0], project.get(f"restricted.idmap.{which}", "")):
                return f'Use of low-level "raw.idmap" element {number} {where} is forbidden'
    return ""


def _covered(wanted: str, allowed: str) -> bool:
    """Whether a range of host ids lies within one of a list of ranges."""
    low, high = _range(wanted)
    spans = [_range(part) for part in allowed.split(",") if part.strip()]
    return low >= 0 and any(first <= low and high <= last for first, last in spans)


def _range(text: str) -> tuple[int, int]:
    """ "5-7" as (5, 7); (-1, -1) for what is no range."""
    first, _, last = text.strip().partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        return -1, -1
    return int(first), int(last or first)
