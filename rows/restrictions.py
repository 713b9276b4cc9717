"""What a restricted project forbids its instances: the meaning of a project's `restricted.*` keys, for every service that needs it.

Judged is the merged configuration, profiles and all, so it makes no difference how something came to be there. The sentences are LXD's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from posixpath import normpath

from chassis.errors import Internal
from chassis.key_types import FALSE, is_true

Texts = Mapping[str, str]
Devices = Mapping[str, Texts]

BLOCK, ALLOW, FULL, MANAGED = "block", "allow", "full", "managed"
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
# What a client may say of an instance although the server notes it itself.
HARMLESS = frozenset({"volatile.apply_template", "volatile.base_image", "volatile.last_state.power"})
HARMLESS_ENDS = (".apply_quota", ".hwaddr")
DISK_PATHS = "restricted.devices.disk.paths"
NETWORK = "Network not allowed in project"
INTERCEPTION = "security.syscalls.intercept."
# Interceptions that `restricted.containers.interception=allow` allows; the others reach into the host and count as low-level, unless it
# is "full".
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


def allows(project: Texts, what: str) -> bool:
    """`what` is "snapshot" or "backup" of an instance or a custom volume."""
    return not restricts(project) or setting(project, f"restricted.{what}s") == ALLOW


def refuse(project: Texts, name: str, what: str) -> None:
    """Raises Internal, as LXD does, where it is not allowed."""
    if not allows(project, what):
        raise Internal(f'Project "{name}" doesn\'t allow for {what} creation')


def refusals(
    project: Texts, name: str, owner: str, config: Texts, devices: Devices, *, whole: bool = True
) -> Iterator[str]:
    """A sentence for each thing that the project forbids. `name` is the project's, `owner` whose things these are: 'container "c1"'.

    `whole`: it is the merged configuration, where what is missing counts too.
    """
    if not restricts(project):
        return
    where = f'on {owner} of project "{name}"'
    for key, text in sorted(config.items()):
        if reason := _key(project, key, text, where):
            yield reason
    isolated = setting(project, "restricted.containers.privilege") == ISOLATED
    if whole and isolated and not is_true(config.get("security.idmap.isolated", "")):
        yield f'Invalid value "" for config "security.idmap.isolated" {where}: Non-isolated containers are forbidden'
    for device, given in sorted(devices.items()):
        if reason := _device(project, given):
            yield f'Invalid device "{device}" {where}: {reason}'


def _key(project: Texts, key: str, text: str, where: str) -> str:
    if key == "raw.idmap":
        return _raw_idmap(project, text, where)
    if key in LOW_LEVEL or (key.startswith(INTERCEPTION) and key not in INTERCEPTABLE):
        full = key.startswith(INTERCEPTION) and setting(project, "restricted.containers.interception") == FULL
        low = setting(project, "restricted.containers.lowlevel")
        return "" if full or low == ALLOW else f'Use of low-level config "{key}" {where} is forbidden'
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
    if key in INTERCEPTABLE and setting(project, "restricted.containers.interception") == BLOCK:
        return "Container syscall interception is forbidden"
    return ""


def _device(project: Texts, given: Texts) -> str:
    type_ = given.get("type", "")
    if type_ in DEVICES:
        allowed = setting(project, f"restricted.devices.{type_}") == ALLOW
        return "" if allowed else f"{DEVICES[type_]} are forbidden"
    if type_ == "nic":
        return _nic(project, given)
    if type_ == "disk":
        return _disk(project, given)
    return ""


def _nic(project: Texts, given: Texts) -> str:
    wanted, network = setting(project, "restricted.devices.nic"), given.get("network", "")
    if wanted == BLOCK:
        return "Network devices are forbidden"
    if wanted == MANAGED and not network:
        return "Only managed network devices are allowed"
    attached = network or given.get("parent", "")
    return "" if not attached or allows_network(project, attached) else NETWORK


def allows_network(project: Texts, network: str) -> bool:
    """Whether a project may see and use a network by this name, managed or not."""
    if not restricts(project):
        return True
    names = _listed(project, "restricted.networks.access")
    return setting(project, "restricted.devices.nic") != BLOCK and (not names or network in names)


def shows_network(project: Texts, network: str, *, managed: bool) -> bool:
    """Whether a project is told of a network: of those that are not managed only where its nics may use them."""
    unmanaged = not restricts(project) or setting(project, "restricted.devices.nic") == ALLOW
    return allows_network(project, network) and (managed or unmanaged)


def _listed(project: Texts, key: str) -> list[str]:
    return [part.strip() for part in project.get(key, "").split(",") if part.strip()]


def _disk(project: Texts, given: Texts) -> str:
    """The root disk is always allowed; a disk without a pool is a path of the host."""
    wanted = setting(project, "restricted.devices.disk")
    if given.get("path") == "/" and not given.get("source"):
        return ""
    if wanted == BLOCK:
        return "Disk devices are forbidden"
    if given.get("pool"):
        return ""
    if wanted == MANAGED:
        return "Attaching disks not backed by a pool is forbidden"
    source = given.get("source", "")
    return "" if allowed_parent(project, source) is not None else f'Disk source path "{source}" not allowed'


def allowed_parent(project: Texts, source: str) -> str | None:
    """The path of `restricted.devices.disk.paths` that a path of the host lies below, by its text; "" where every path is allowed.

    Whoever opens the source must hold it to that parent: a link on the way may lead elsewhere.
    """
    parents = _listed(project, DISK_PATHS) if restricts(project) else []
    if not parents:
        return ""
    wanted = normpath(source)
    return next(
        (one for one in map(normpath, parents) if wanted == one or wanted.startswith(one.rstrip("/") + "/")), None
    )


def volatile_refusal(project: Texts, name: str, owner: str, config: Texts, now: Texts) -> str:
    """Why a client may not write these volatile keys; `now` is what the instance has. Empty if it may."""
    if not restricts(project) or setting(project, "restricted.containers.lowlevel") == ALLOW:
        return ""
    for key, text in sorted(config.items()):
        if not key.startswith("volatile.") or key in HARMLESS or key.endswith(HARMLESS_ENDS) or now.get(key) == text:
            continue
        verb = "Changing" if key in now else "Setting"
        return f'{verb} "{key}" on {owner} in project "{name}" is forbidden'
    return ""


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
