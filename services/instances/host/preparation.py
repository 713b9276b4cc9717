"""What liblxc reads of a container, written anew for each start; and what it has said when a start failed.

Sources of mounts are bound into the container's folder for as long as the start takes: liblxc mounts as the container's root, who may
not be let through to a source by the folders above it. Its own copy stays when ours goes. Nobody else is let through to them: what lies in
a custom volume has the owners of the inside, and setuid bits too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from chassis.errors import Internal
from services.instances.host import cgroups, lxcconfig, seccomp, sources
from services.instances.host.cgroups import Machine
from services.instances.host.idmap import IdMap
from services.instances.host.interception import rules, settings
from services.instances.host.interception.service import SOCKET
from services.instances.host.lxcconfig import Host, Place
from services.instances.host.places import Places
from services.instances.host.spec import Key, MountSpec, Spec

STAGED = "mounts"
MS_BIND, MS_REC, MNT_DETACH, UMOUNT_NOFOLLOW = 0x1000, 0x4000, 0x2, 0x8
FOLDER_MODE = 0o711  # the staged mounts must be reached by the container's root
STAGED_MODE = 0o700
CAUSES = 2  # of liblxc's complaints, the first of which is the root of the others

_libc = ctypes.CDLL(None, use_errno=True)


def prepare(places: Places, host: Host, machine: Machine, spec: Spec, cpus: set[int] | None, mapped: bool) -> None:
    """`mapped`: the rootfs is mounted with shifted ids. Raises ValueError for a configuration that cannot be, OSError."""
    folder, logs = places.folder(spec.key), places.logs(spec.key)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    logs.mkdir(mode=0o700, exist_ok=True)
    places.purge(spec.key)
    unstage(folder)
    (folder / lxcconfig.TARGET).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        (logs / lxcconfig.LOG).replace(logs / f"{lxcconfig.LOG}.old")
    limits = tuple(setting.line for setting in cgroups.plan(spec.config, machine, cpus))
    names = places.payload(spec.key), places.monitor(spec.key), places.pivot
    notify = places.directory.parent / SOCKET if rules.intercepted(spec.config) else None
    place = Place(folder, *names, mapped, _filter(folder, spec), limits, notify)
    if notify is not None:
        settings.write(str(folder), settings.of(spec.config))
    spec = replace(spec, mounts=tuple(stage(folder, spec.mounts, spec.idmap)))
    text = lxcconfig.file_of(spec, place, host)
    _write(folder / lxcconfig.HOOK, lxcconfig.hook_of(place))
    _write(folder / lxcconfig.CONFIG, text)
    shown = logs / lxcconfig.CONFIG
    shown.unlink(missing_ok=True)
    os.link(folder / lxcconfig.CONFIG, shown)


def _write(path: Path, text: str) -> None:
    """A file for root alone, in place of the old one (of which a hard link may be shown elsewhere)."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


def _filter(folder: Path, spec: Spec) -> Path | None:
    text = seccomp.policy(spec.config, spec.architecture)
    if text is None:
        return None
    _write(folder / lxcconfig.SECCOMP, text)
    return folder / lxcconfig.SECCOMP


def is_intercepted(folder: Path) -> bool:
    """Whether the container that runs from there has calls that it leaves to the host."""
    with suppress(OSError):
        return any(line.startswith(lxcconfig.NOTIFY) for line in (folder / lxcconfig.CONFIG).read_text().splitlines())
    return False


def stage(folder: Path, mounts: tuple[MountSpec, ...], idmap: IdMap | None = None) -> Iterator[MountSpec]:
    """The mounts with sources in our own folder, which is open to the root of this map alone. Raises OSError."""
    for number, mount in enumerate(mounts):
        if mount.fstype != "none" or not mount.source.startswith("/"):
            yield mount
            continue
        place = folder / STAGED / str(number)
        place.parent.mkdir(mode=STAGED_MODE, exist_ok=True)
        if idmap is not None:
            os.chown(place.parent, idmap.to_host("u", 0) or 0, idmap.to_host("g", 0) or 0)
        with sources.opened(mount) as source:
            _bind(source, place, MS_REC if "rbind" in mount.options else 0)
        yield replace(mount, source=str(place))


def _bind(source: str, place: Path, deep: int) -> None:
    if Path(source).is_dir():
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    if _libc.mount(os.fsencode(source), os.fsencode(place), None, ctypes.c_ulong(MS_BIND | deep), None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), source)


def unstage(folder: Path) -> None:
    """Done already is as good."""
    staged = folder / STAGED
    with suppress(FileNotFoundError, NotADirectoryError):
        for place in list(staged.iterdir()):
            while _libc.umount2(os.fsencode(place), MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
                pass
            with suppress(OSError):  # what cannot be unmounted is not removed either
                if place.is_dir():
                    place.rmdir()
                else:
                    place.unlink()
        with suppress(OSError):
            staged.rmdir()


def discard(folder: Path) -> None:
    """Remove a container's folder, but never what a mount shows in it. Raises Internal if something stays mounted there."""
    unstage(folder)
    inside = f"{folder.resolve()}/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.startswith(inside):
            raise Internal(f"{point} is still mounted")
    shutil.rmtree(folder, ignore_errors=True)


def complaint(places: Places, key: Key) -> str:
    """The errors of its log, without liblxc's places in its source."""
    try:
        lines = (places.logs(key) / lxcconfig.LOG).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "; ".join([line.split(" - ", 2)[-1] for line in lines if " ERROR " in line][:CAUSES])
