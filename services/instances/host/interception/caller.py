"""Who has made a call that is held up: its memory, its rights, its place in the file system. For the child that serves the call.

Everything is opened by way of the descriptors that came with the call, which liblxc has opened while the caller was held, so they are
the caller's even if it has died since and its number is another's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from chassis import beneath
from services.instances.host import capabilities
from services.instances.host.interception.message import Notification

LONGEST_PATH = 4096  # with its NUL
AT_FDCWD = -100
ID_VALID = 0x40082102  # SECCOMP_IOCTL_NOTIF_ID_VALID
PAGE = 4096


class Denied(Exception):
    """The kernel is to decide: it refuses what we do not do."""


class Caller:
    """`home` is the container's folder on this server."""

    def __init__(self, call: Notification, home: str, folder: int, memory: int, listener: int) -> None:
        self.call, self.home, self.folder, self.memory, self.listener = call, home, folder, memory, listener

    # -- registers and memory

    def argument(self, number: int) -> int:
        return self.call.arguments[number]

    def signed(self, number: int) -> int:
        """An argument that is an int."""
        low = self.argument(number) & 0xFFFFFFFF
        return low - (1 << 32) if low >> 31 else low

    def read(self, address: int, length: int) -> bytes:
        """Raises OSError EFAULT unless all of it is there."""
        data = self._read(address, length)
        if len(data) < length:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return data

    def text(self, address: int, most: int = LONGEST_PATH) -> bytes:
        """A string; `most` counts its NUL. Read once: what it is now is what is meant. Raises OSError ENAMETOOLONG, EFAULT."""
        found = b""
        while len(found) < most:
            length = min(
                most - len(found), PAGE - (address + len(found)) % PAGE
            )  # the next page may be missing, rightly
            part = self.read(address + len(found), length)
            text, nul, _ = part.partition(b"\0")
            found += text
            if nul:
                return found
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def _read(self, address: int, length: int) -> bytes:
        try:
            return os.pread(self.memory, length, address)
        except (OSError, OverflowError):  # EIO, or an address that is none
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from None

    # -- rights

    @cached_property
    def status(self) -> dict[str, list[str]]:
        """/proc/PID/status of the thread; ids are the host's."""
        with open(self.open("status", os.O_RDONLY), "rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
        return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}

    @property
    def file_ids(self) -> tuple[int, int]:
        """The user and the group of the host that its files are made as."""
        return int(self.status["Uid"][3]), int(self.status["Gid"][3])

    @cached_property
    def rights(self) -> frozenset[int]:
        """Its effective capabilities in the container; none if it is in a user namespace below the container's."""
        ours = os.stat("ns/user", dir_fd=self.folder)
        inits = os.stat(f"/proc/{self.call.init}/ns/user")
        if (ours.st_dev, ours.st_ino) != (inits.st_dev, inits.st_ino):
            return frozenset()
        mask = int(self.status["CapEff"][0], 16)
        return frozenset(number for number in range(64) if mask >> number & 1)

    def need(self, capability: int) -> None:
        """Raises Denied."""
        if capability not in self.rights:
            raise Denied

    def still_waits(self) -> None:
        """Raises Denied when the call is over: its caller was killed, or a signal has come."""
        try:
            fcntl.ioctl(self.listener, ID_VALID, self.call.id.to_bytes(8, "little"))
        except OSError:
            raise Denied from None

    @cached_property
    def idmap(self) -> dict[str, list[tuple[int, int, int]]]:
        """The container's ids, users ("u") and groups ("g"): the first inside, the first of the host's, how many."""
        found = {}
        for kind, name in (("u", "uid_map"), ("g", "gid_map")):
            with open(f"/proc/{self.call.init}/{name}", "rb") as lines:
                found[kind] = [(int(ns), int(host), int(length)) for ns, host, length in map(bytes.split, lines)]
        return found

    def to_host(self, kind: str, ident: int) -> int | None:
        """The host's id behind one of the container's."""
        return next((host + ident - ns for ns, host, n in self.idmap[kind] if ns <= ident < ns + n), None)

    def to_container(self, kind: str, ident: int) -> int:
        """The container's id of one of the host's. Raises Denied if it has none."""
        found = next((ns + ident - host for ns, host, n in self.idmap[kind] if host <= ident < host + n), None)
        if found is None:
            raise Denied
        return found

    def _has(self, kind: str, ident: int) -> bool:
        return any(host <= ident < host + length for _, host, length in self.idmap[kind])

    def owns(self, what: os.stat_result) -> bool:
        """Whether the container's root has a right to it at all: its owner and group are ids of the container."""
        return self._has("u", what.st_uid) and self._has("g", what.st_gid)

    # -- place

    def open(self, name: str, flags: int = os.O_PATH) -> int:
        """A file of its folder in /proc: "root", "ns/mnt". Raises OSError."""
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=self.folder)

    def base(self, folder: int) -> int:
        """What relative paths begin at: AT_FDCWD, or the number of a descriptor of the caller's. Raises OSError EBADF, ENOTDIR."""
        if folder == AT_FDCWD:
            return self.open("cwd", os.O_PATH | os.O_DIRECTORY)
        if folder < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            return self.open(f"fd/{folder}", os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    @contextmanager
    def standing(self, base: int) -> Iterator[None]:
        """With the caller's root as ours and that folder as the current one."""
        home, root = os.open("/", os.O_PATH | os.O_CLOEXEC), self.open("root")
        try:
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(base)
            yield
        finally:
            capabilities.take_ids(0, 0)
            os.fchdir(home)
            os.chroot(".")
            os.close(home)
            os.close(root)

    def as_itself(self, *more: int, files: bool = False) -> None:
        """Act with its ids, and with `more`. `files`: with its rights over others' files too, which only count for what it `owns`."""
        capabilities.take_ids(0, 0)
        os.setgroups([int(word) for word in self.status["Groups"]])
        os.umask(int(self.status["Umask"][0], 8))
        capabilities.take_ids(*self.file_ids, {*more, *(self.rights & capabilities.FILES if files else ())})

    def find(self, base: int, path: bytes, flags: int = os.O_PATH) -> int:
        """Open a path as the caller would, but through no magic link. Raises OSError.

        Its rights over files of the container let it pass where its ids do not; of what lies behind a folder that is not the
        container's, nothing is told.
        """
        if not path:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        with self.standing(base):
            self.as_itself()
            try:
                return beneath.openat2(AT_FDCWD, path, flags, resolve=beneath.RESOLVE_NO_MAGICLINKS)
            except PermissionError:
                if not self.rights & capabilities.FILES:
                    raise
            self.as_itself(files=True)
            return self._own(path, flags)

    def _own(self, path: bytes, flags: int) -> int:
        refused = OSError(errno.EACCES, os.strerror(errno.EACCES))
        try:
            found = beneath.openat2(AT_FDCWD, path, flags, resolve=beneath.RESOLVE_NO_MAGICLINKS)
        except OSError:
            raise refused from None
        if not self.owns(os.fstat(found)):
            os.close(found)
            raise refused
        return found
