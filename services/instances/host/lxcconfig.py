"""What liblxc is told of a container: the lines of its configuration file. Pure; what the host has is given in `Host`.

Defaults are LXD's own. Keys and values that an instance's owner chose stand in lines of their own and never hold a line break, so that none
can add a line (raw.lxc is the exception by design, and whoever may set it is checked above).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.instances.host.idmap import TRUE
from services.instances.host.spec import MountSpec, Spec

ARCHITECTURES = {"i686": "i686", "x86_64": "x86_64", "armv7l": "armv7l", "aarch64": "aarch64"}
PRIVILEGED_DROPS = "sys_time sys_module sys_rawio mac_admin mac_override"
BOUND_FROM_HOST = (
    "/dev/fuse",
    "/dev/net/tun",
    "/proc/sys/fs/binfmt_misc",
    "/sys/firmware/efi/efivars",
    "/sys/fs/fuse/connections",
    "/sys/fs/pstore",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)
PRIVILEGED_DEVICES = (
    "b *:* m",
    "c *:* m",
    "c 136:* rwm",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 10:229 rwm",
    "c 10:200 rwm",
)
LXCFS = "/var/lib/lxcfs"
PROFILE, NESTING_PROFILE = "lxc-container-default-cgns", "lxc-container-default-with-nesting"
CONSOLE_LOG = "console.log"
CONFIG = "lxc.conf"
SECCOMP = "seccomp"
LOGS = "logs"
LOG = "lxc.log"
HOOK = "ended"
CONSOLE_BYTES = 128 * 1024
TARGET = "target"  # the file that tells how the container ended: liblxc's LXC_TARGET, "stop" or "reboot"
NOTIFY = "lxc.seccomp.notify.proxy"
Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine has, as far as a container's configuration goes by it."""

    bindable: frozenset[str] = frozenset()  # of BOUND_FROM_HOST: path with "/" at its end if it is a directory
    lxcfs: frozenset[str] = frozenset()  # files below LXCFS/proc, "sys/devices/system/cpu" too
    apparmor: frozenset[str] | None = None  # profiles that are loaded; None: the kernel has no AppArmor
    unified: bool = False  # pure cgroup2
    devices_controller: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container lives on this server."""

    folder: Path  # D/instances/<folder>
    payload: str  # its cgroup, below each hierarchy
    monitor: str
    pivot: str
    shifts_rootfs: bool = False  # the rootfs is mounted with shifted ids (else ownership on disk is right already)
    seccomp: Path | None = None
    limits: tuple[Line, ...] = field(default=())  # cgroup keys, as `cgroups.plan` gives them
    notify: Path | None = None  # the socket for system calls that are held up


def file_of(spec: Spec, place: Place, host: Host) -> str:
    """The whole file. Raises ValueError for a value that cannot stand in a line."""
    lines = ((_one_line(key, key), _one_line(key, value)) for key, value in lines_of(spec, place, host))
    return "".join(f"{key} = {value}\n" for key, value in lines) + _raw(spec)


def lines_of(spec: Spec, place: Place, host: Host) -> Iterator[Line]:
    """Every line but those of raw.lxc."""
    yield from _identity(spec, place)
    yield from _mounts(spec, place, host)
    yield from _privileges(spec, place, host)
    yield from _resources(spec, place)
    yield from _nics(spec)


def _identity(spec: Spec, place: Place) -> Iterator[Line]:
    logs = place.folder / LOGS
    yield "lxc.log.file", str(logs / LOG)
    yield "lxc.log.level", "warn"
    yield "lxc.console.logfile", str(logs / CONSOLE_LOG)
    yield "lxc.console.size", str(CONSOLE_BYTES)
    yield "lxc.console.rotate", "1"
    yield "lxc.tty.max", "0"
    yield "lxc.pty.max", "1024"
    yield "lxc.autodev", "1"
    yield "lxc.arch", ARCHITECTURES.get(spec.architecture, spec.architecture)
    yield "lxc.uts.name", spec.key.name
    yield "lxc.cgroup.dir.container", place.payload
    yield "lxc.cgroup.dir.monitor", place.monitor
    yield "lxc.cgroup.dir.monitor.pivot", place.pivot
    # liblxc would start a container that asks for a reboot again by itself; a post-stop hook that fails keeps it from that.
    yield "lxc.hook.version", "1"
    yield "lxc.hook.post-stop", f"/bin/sh {_quoted(str(place.folder / HOOK))}"
    for key, value in sorted(spec.config.items()):
        if key.startswith("environment."):
            yield "lxc.environment", f"{key.removeprefix('environment.')}={value}"


def hook_of(place: Place) -> str:
    """The script of the post-stop hook."""
    return f'echo "$LXC_TARGET" > {_quoted(str(place.folder / TARGET))}\n[ "$LXC_TARGET" != reboot ]\n'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _mounts(spec: Spec, place: Place, host: Host) -> Iterator[Line]:
    yield "lxc.rootfs.path", f"dir:{spec.rootfs}"
    if place.shifts_rootfs:
        yield "lxc.rootfs.options", "idmap=container"
    kernel = "mixed" if spec.idmap is None else "rw"
    cgroup = "cgroup:rw:force" if host.unified else "cgroup:mixed"
    yield "lxc.mount.auto", f"proc:{kernel} sys:{kernel} {cgroup}"
    if spec.idmap is None:
        yield "lxc.mount.entry", "mqueue dev/mqueue mqueue rw,relatime,create=dir,optional 0 0"
    else:
        yield "lxc.mount.entry", "/dev/mqueue dev/mqueue none rbind,create=dir,optional 0 0"
    for path in BOUND_FROM_HOST:
        if f"{path}/" in host.bindable:
            yield "lxc.mount.entry", f"{path} {path[1:]} none rbind,create=dir,optional 0 0"
        elif path in host.bindable:
            yield "lxc.mount.entry", f"{path} {path[1:]} none bind,create=file,optional 0 0"
    if _is_true(spec.config, "security.nesting"):
        yield "lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0"
        yield "lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0"
    for name in sorted(host.lxcfs):
        yield "lxc.mount.entry", f"{LXCFS}/{name} {name} none bind,optional 0 0"
    for mount in spec.mounts:
        yield "lxc.mount.entry", mount_entry(mount, shift=mount.shift and spec.idmap is not None)


def mount_entry(mount: MountSpec, *, shift: bool) -> str:
    """A line of fstab in which blanks are written as octal escapes."""
    options = list(mount.options)
    if mount.create:
        options.append(f"create={mount.create}")
    if shift:
        options.append("idmap=container")
    return f"{_escaped(mount.source)} {_escaped(mount.target.lstrip('/'))} {mount.fstype} {','.join(options)} 0 0"


def _escaped(path: str) -> str:
    return "".join(f"\\{ord(c):03o}" if c in " \t\\" else c for c in path)


def _privileges(spec: Spec, place: Place, host: Host) -> Iterator[Line]:
    if spec.idmap is None:
        yield "lxc.cap.drop", PRIVILEGED_DROPS
        if host.devices_controller:
            group = "lxc.cgroup2" if host.unified else "lxc.cgroup"
            yield f"{group}.devices.deny", "a"
            for allowed in PRIVILEGED_DEVICES:
                yield f"{group}.devices.allow", allowed
    else:
        for found in spec.idmap.ranges:
            yield "lxc.idmap", f"{found.kind} {found.ns} {found.host} {found.length}"
    if host.apparmor is not None:
        yield "lxc.apparmor.profile", _profile(spec, host.apparmor)
    if place.seccomp is not None:
        yield "lxc.seccomp.profile", str(place.seccomp)
        if _is_true(spec.config, "security.nesting"):
            yield "lxc.seccomp.allow_nesting", "1"
    if place.notify is not None:
        yield NOTIFY, f"unix:{place.notify}"
        yield "lxc.seccomp.notify.cookie", spec.key.folder_name


def _profile(spec: Spec, loaded: frozenset[str]) -> str:
    """liblxc's own profiles hold a container back that has the host's root; another is held by its user namespace."""
    wanted = NESTING_PROFILE if _is_true(spec.config, "security.nesting") else PROFILE
    return wanted if spec.idmap is None and wanted in loaded else "unconfined"


def _resources(spec: Spec, place: Place) -> Iterator[Line]:
    yield from place.limits
    for key, value in sorted(spec.config.items()):
        if key.startswith("limits.kernel."):
            yield f"lxc.prlimit.{key.removeprefix('limits.kernel.')}", value
        elif key.startswith("linux.sysctl."):
            yield f"lxc.sysctl.{key.removeprefix('linux.sysctl.')}", value


def _nics(spec: Spec) -> Iterator[Line]:
    if not spec.nics:
        yield "lxc.net.0.type", "empty"
    for number, nic in enumerate(spec.nics):
        yield f"lxc.net.{number}.type", "phys"
        yield f"lxc.net.{number}.link", nic.peer_name
        yield f"lxc.net.{number}.name", nic.guest_name
        yield f"lxc.net.{number}.flags", "up"
        if nic.hwaddr:
            yield f"lxc.net.{number}.hwaddr", nic.hwaddr
        if nic.mtu:
            yield f"lxc.net.{number}.mtu", str(nic.mtu)
        for what, texts in (("address", nic.addresses), ("gateway", nic.gateways)):
            yield from ((f"lxc.net.{number}.{'ipv6' if ':' in text else 'ipv4'}.{what}", text) for text in texts)


def _raw(spec: Spec) -> str:
    text = spec.config.get("raw.lxc", "")
    return f"{text.rstrip()}\n" if text.strip() else ""


def _one_line(key: str, text: str) -> str:
    """A key or its value. Raises ValueError."""
    if any(character in text for character in "\n\r\0"):
        raise ValueError(f"Invalid value for {key!r}: holds a line break")
    return text


def _is_true(config: Mapping[str, str], key: str) -> bool:
    return config.get(key, "").lower() in TRUE


def probe(unified: bool, devices_controller: bool, root: Path = Path("/"), mounted: Iterable[str] = ()) -> Host:
    """What this machine has. `mounted` are its mount points."""
    bindable = set()
    for path in BOUND_FROM_HOST:
        found = root / path[1:]
        if found.exists():
            bindable.add(f"{path}/" if found.is_dir() else path)
    lxcfs: set[str] = set()
    if LXCFS in set(mounted):
        base = root / LXCFS[1:]
        lxcfs = {f"proc/{p.name}" for p in (base / "proc").glob("*")}
        if (base / "sys/devices/system/cpu").is_dir():
            lxcfs.add("sys/devices/system/cpu")
    return Host(
        frozenset(bindable),
        frozenset(lxcfs),
        _loaded_profiles(root),
        unified,
        devices_controller,
    )


def _loaded_profiles(root: Path) -> frozenset[str] | None:
    try:
        lines = (root / "sys/kernel/security/apparmor/profiles").read_text().splitlines()
    except OSError:
        return None
    return frozenset(line.rpartition(" (")[0] for line in lines)
