"""Links and mounts that come to and go from a container while it runs. Each may be done twice.

Blocking, for threads of their own: a thread that has entered a mount namespace never comes back (it ends), one that visits a network
namespace does. Every path inside is resolved with the container's root as its root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

from chassis import beneath
from services.instances.host import netlink, sources
from services.instances.host.idmap import IdMap
from services.instances.host.netlink import Route, inside, setns
from services.instances.host.process import Watched
from services.instances.host.spec import MountSpec, NicSpec

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
OPEN_TREE_CLONE, AT_EMPTY_PATH, AT_RECURSIVE = 0x1, 0x1000, 0x8000
MOVE_FROM_FD_TO_FD = 0x44
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
ATTR_IDMAP = 0x100000
ATTRIBUTES = {"ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10, "nodiratime": 0x80}
PROPAGATION = {"shared": 1 << 20, "private": 1 << 18, "slave": 1 << 19, "unbindable": 1 << 17}
OWN_KINDS = frozenset(("veth", "macvlan", "macvtap", "ipvlan"))  # links that were made for a container and end with it

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _call(number: int, *arguments: object) -> int:
    """A system call; raises OSError."""
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


# -- links


def attach_nic(init: Watched, nic: NicSpec) -> None:
    """Move a link of the host into the container, give it its name there and bring it up. Raises OSError."""
    with Route() as home:
        link = home.link(nic.peer_name)
        if link is not None:
            target = init.open("ns/net")
            try:
                home.change(link.index, up=False, attributes=_dressing(nic))
                fd = target.to_bytes(4, "little")
                home.change(
                    link.index,
                    attributes={netlink.IFLA_NET_NS_FD: fd, netlink.IFLA_IFNAME: nic.guest_name.encode() + b"\0"},
                )
            finally:
                os.close(target)
    with inside(init), Route() as there:
        link = there.link(nic.guest_name)
        if link is None:
            raise OSError(errno.ENODEV, f"no link {nic.peer_name}")
        there.change(link.index, up=True)


def _dressing(nic: NicSpec) -> dict[int, bytes]:
    found = {}
    if nic.hwaddr:
        found[netlink.IFLA_ADDRESS] = bytes.fromhex(nic.hwaddr.replace(":", ""))
    if nic.mtu:
        found[netlink.IFLA_MTU] = nic.mtu.to_bytes(4, "little")
    return found


def detach_nic(init: Watched, guest_name: str, back_as: str = "") -> None:
    """Take a link out of the container: one that was made for it is deleted, another goes home under `back_as`. Raises OSError."""
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(init), Route() as there:
            link = there.link(guest_name)
            if link is None:
                return
            if not back_as and link.kind in OWN_KINDS:
                there.delete(link.index)
                return
            there.change(link.index, up=False)
            name = (back_as or guest_name).encode() + b"\0"
            there.change(
                link.index, attributes={netlink.IFLA_NET_NS_FD: home.to_bytes(4, "little"), netlink.IFLA_IFNAME: name}
            )
    finally:
        os.close(home)


# -- mounts


def attach_mount(init: Watched, mount: MountSpec, idmap: IdMap | None) -> None:
    """Bind a folder or file of the host into the container. The calling thread must end afterwards. Raises OSError."""
    tree = _open_tree(init, mount, idmap is not None and mount.shift)
    try:
        root = _enter(init)
        target = _target(root, mount)
        seen, wanted = os.fstat(target), os.fstat(tree)
        if (seen.st_dev, seen.st_ino) != (wanted.st_dev, wanted.st_ino):  # else it is mounted there already
            _call(SYS_MOVE_MOUNT, tree, b"", target, b"", MOVE_FROM_FD_TO_FD)
    finally:
        os.close(tree)


def _open_tree(init: Watched, mount: MountSpec, shift: bool) -> int:
    """A detached copy of the source with the mount's options on it."""
    deep = AT_RECURSIVE if "rbind" in mount.options else 0
    with sources.opened(mount) as source:
        tree = _call(SYS_OPEN_TREE, -100, os.fsencode(source), OPEN_TREE_CLONE | os.O_CLOEXEC | deep)
    try:
        wanted = sum(ATTRIBUTES.get(option, 0) for option in mount.options)
        spread = next(
            (PROPAGATION[o.removeprefix("r")] for o in mount.options if o.removeprefix("r") in PROPAGATION), 0
        )
        attributes = _Attributes(wanted, 0, spread, 0)
        users = init.open("ns/user") if shift else -1
        try:
            if shift:
                attributes.set |= ATTR_IDMAP
                attributes.userns = users
            if attributes.set or spread:
                flags = AT_EMPTY_PATH | deep
                _call(
                    SYS_MOUNT_SETATTR,
                    tree,
                    b"",
                    flags,
                    ctypes.byref(attributes),
                    ctypes.c_size_t(ctypes.sizeof(attributes)),
                )
        finally:
            if users >= 0:
                os.close(users)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _enter(init: Watched) -> int:
    """Into the container's mount namespace; a descriptor of its root."""
    space = init.open("ns/mnt")
    try:
        if _libc.unshare(CLONE_FS) < 0:
            raise OSError(ctypes.get_errno(), "unshare")
        setns(space, CLONE_NEWNS)
    finally:
        os.close(space)
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _target(root: int, mount: MountSpec) -> int:
    """The mount point, made if the mount says so."""
    path = mount.target.lstrip("/")
    try:
        return beneath.openat2(root, path, os.O_PATH, 0, beneath.INSIDE)
    except FileNotFoundError:
        if not mount.create:
            raise
    parts = Path(path).parts
    for depth in range(1, len(parts) + (mount.create == "dir")):
        with suppress(FileExistsError), beneath.parent_inside(root, str(Path(*parts[:depth]))) as (parent, name):
            os.mkdir(name, 0o755, dir_fd=parent)
    if mount.create == "file":
        os.close(beneath.open_inside(root, path, os.O_WRONLY | os.O_CREAT, 0o644))
    return beneath.openat2(root, path, os.O_PATH, 0, beneath.INSIDE)


def detach_mount(init: Watched, target: str) -> None:
    """Unmount what is mounted there; nothing there is as good. The calling thread must end afterwards. Raises OSError."""
    root = _enter(init)
    with suppress(FileNotFoundError), beneath.parent_inside(root, target) as (parent, name):
        os.fchdir(parent)
        if _libc.umount2(os.fsencode(name), MNT_DETACH | UMOUNT_NOFOLLOW) < 0:
            number = ctypes.get_errno()
            if number not in (errno.EINVAL, errno.ENOENT):
                raise OSError(number, os.strerror(number), target)
