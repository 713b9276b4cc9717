"""Files in a container's tree: read, written, listed and removed as a process inside would reach them, with the ids of the inside.

Every path is resolved by the kernel with the tree as its root (`chassis.beneath`); nothing but regular files and directories is ever
opened for reading or writing. Work is done in a thread of its own for each tree (`worker`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname, join
from typing import TYPE_CHECKING, Literal, TypeVar

from chassis import beneath
from chassis.errors import BadRequest, Fault, Internal, NotFound
from services.instances.host.idmap import IdMap
from services.instances.host.process import Watched
from services.instances.host.rootfs import disk_map
from services.instances.host.worker import Worker

if TYPE_CHECKING:
    from services.instances.host.containers import Containers
    from services.instances.host.spec import Key

T = TypeVar("T")
Type = Literal["file", "directory", "symlink"]
CHUNK = 1024 * 1024
FILE_MODE, DIRECTORY_MODE = 0o644, 0o750
NOBODY = 65534
TYPES: dict[int, Type] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@dataclass(frozen=True, slots=True)
class FileInfo:
    """`target` is that of a symlink, made absolute as LXD does; `entries` are the names in a directory."""

    type: Type
    uid: int
    gid: int
    mode: int
    size: int
    target: str = ""
    entries: tuple[str, ...] = ()
    modified: float = 0.0  # epoch seconds


def fault_of(error: OSError, path: str) -> Fault:
    """What a client is told."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound("Not Found")
    if error.errno == errno.ENAMETOOLONG:
        return BadRequest(f"Invalid path {path[:64]}...: {os.strerror(errno.ENAMETOOLONG)}")
    return Internal(f"{path}: {os.strerror(error.errno or errno.EIO).lower()}")


class Tree:
    """The tree below `root`: a folder of the host, or what a container's init has for its root.

    `idmap` None: ids on disk are those of the inside. An async context manager; raises NotFound on entry when there is no such tree.
    """

    def __init__(self, root: Path | Watched, idmap: IdMap | None = None) -> None:
        self._root = root
        self._idmap = idmap if idmap is not None and idmap.ranges else None
        self._folder = -1
        self._worker = Worker(self._root_ids())

    @classmethod
    def of(cls, containers: Containers, key: Key, volume: Path, idmap: IdMap | None) -> Tree:
        """The tree of an instance: as it is mounted inside while it runs (with this map), else its rootfs in the mounted volume."""
        init = containers.init(key)
        return cls(volume / "rootfs", disk_map(volume)) if init is None else cls(init, idmap)

    def _root_ids(self) -> tuple[int, int] | None:
        if self._idmap is None:
            return None
        return self._idmap.to_host("u", 0) or 0, self._idmap.to_host("g", 0) or 0

    async def __aenter__(self) -> Tree:
        def open_root() -> int:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            return self._root.open("root", flags) if isinstance(self._root, Watched) else os.open(self._root, flags)

        self._folder = await self._do(open_root, str(self._root))
        return self

    async def __aexit__(self, *_: object) -> None:
        folder, self._folder = self._folder, -1
        if folder >= 0:
            self._worker.later(lambda: os.close(folder))
        self._worker.close()

    async def _do(self, work: Callable[[], T], path: str) -> T:
        try:
            return await self._worker.do(work)
        except OSError as error:
            raise fault_of(error, path) from None
        except ValueError as error:
            raise BadRequest(f"Invalid path {path!r}: {error}") from None

    # -- ids

    def _inside(self, found: os.stat_result) -> tuple[int, int]:
        if self._idmap is None:
            return found.st_uid, found.st_gid
        uid, gid = self._idmap.to_ns("u", found.st_uid), self._idmap.to_ns("g", found.st_gid)
        return NOBODY if uid is None else uid, NOBODY if gid is None else gid

    def _outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Raises OSError EINVAL for an id that the container does not have."""
        if self._idmap is None:
            return uid, gid
        outer = self._idmap.to_host("u", uid), self._idmap.to_host("g", gid)
        if outer[0] is None or outer[1] is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return outer[0], outer[1]

    # -- reading

    async def stat(self, path: str) -> FileInfo:
        """Of the last part itself (a symlink is not followed). Raises NotFound; BadRequest for what is no file, directory or symlink."""
        return await self._do(lambda: self._stat(path), path)

    def _stat(self, path: str) -> FileInfo:
        found = beneath.stat_inside(self._folder, path)
        kind = TYPES.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            raise OSError(errno.EOPNOTSUPP, "is neither a file nor a directory nor a symlink")
        target = ""
        entries: tuple[str, ...] = ()
        if kind == "symlink":
            with beneath.parent_inside(self._folder, path) as (parent, name):
                target = os.readlink(name, dir_fd=parent)
            if not target.startswith("/"):
                target = join(dirname("/" + path.lstrip("/")), target)
        elif kind == "directory":
            entries = self._entries(path)
        uid, gid = self._inside(found)
        return FileInfo(kind, uid, gid, stat.S_IMODE(found.st_mode), found.st_size, target, entries, found.st_mtime)

    def _entries(self, path: str) -> tuple[str, ...]:
        folder = beneath.open_inside(self._folder, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return tuple(sorted(os.listdir(folder)))
        finally:
            os.close(folder)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """A regular file's content in chunks of at most 1 MiB. Symlinks are followed within the tree."""
        fd = await self._do(lambda: self._open_regular(path, os.O_RDONLY), path)
        try:
            while data := await self._do(lambda: _read(fd), path):
                yield data
        finally:
            self._worker.later(lambda: os.close(fd))

    def _open_regular(self, path: str, flags: int) -> int:
        """Looked at before it is opened: opening a device can do things."""
        seen = _seen(self._folder, path)
        try:
            if not stat.S_ISREG(os.fstat(seen).st_mode):
                is_folder = stat.S_ISDIR(os.fstat(seen).st_mode)
                raise OSError(errno.EISDIR if is_folder else errno.EOPNOTSUPP, "not a regular file")
            return os.open(f"/proc/self/fd/{seen}", flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(seen)

    # -- writing

    async def write(
        self,
        path: str,
        data: AsyncIterator[bytes],
        *,
        uid: int | None = None,
        gid: int | None = None,
        mode: int | None = None,
        append: bool = False,
    ) -> bool:
        """Replace a file's content, or add to it; whether it was created. Owner and mode are only given to a new file (0:0, 0644).

        Raises NotFound when there is nothing to append to. What has arrived when `data` breaks off stays.
        """
        fd, created = await self._do(lambda: self._open_for_write(path, uid or 0, gid or 0, mode, append), path)
        try:
            async for piece in gathered(data):
                await self._do(lambda piece=piece: _write(fd, piece), path)  # type: ignore[misc]
        finally:
            self._worker.later(lambda: os.close(fd))
        return created

    def _open_for_write(self, path: str, uid: int, gid: int, mode: int | None, append: bool) -> tuple[int, bool]:
        flags = os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC)
        try:
            return self._open_regular(path, flags), False
        except FileNotFoundError:
            if append:
                raise
        owner = self._outside(uid, gid)
        fd = beneath.open_inside(self._folder, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchown(fd, *owner)
            os.fchmod(fd, FILE_MODE if mode is None else stat.S_IMODE(mode))
        except BaseException:
            os.close(fd)
            self._delete(path)
            raise
        return fd, True

    async def mkdir(
        self, path: str, *, uid: int | None = None, gid: int | None = None, mode: int | None = None
    ) -> bool:
        """Whether it was created; one that is there is left as it is."""
        return await self._do(
            lambda: self._mkdir(path, uid or 0, gid or 0, DIRECTORY_MODE if mode is None else mode), path
        )

    def _mkdir(self, path: str, uid: int, gid: int, mode: int) -> bool:
        if not path.strip("/"):
            return False
        owner = self._outside(uid, gid)
        with beneath.parent_inside(self._folder, path) as (parent, name):
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                fd = _seen(self._folder, path)
                try:
                    if not stat.S_ISDIR(os.fstat(fd).st_mode):
                        raise
                finally:
                    os.close(fd)
                return False
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            fd = beneath.open_beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fchmod(fd, stat.S_IMODE(mode))
            finally:
                os.close(fd)
        return True

    async def symlink(self, path: str, target: str, *, uid: int | None = None, gid: int | None = None) -> bool:
        """Whether it was created; the same link already there is left. Raises Internal when something else stands there."""
        return await self._do(lambda: self._symlink(path, target, uid or 0, gid or 0), path)

    def _symlink(self, path: str, target: str, uid: int, gid: int) -> bool:
        owner = self._outside(uid, gid)
        with beneath.parent_inside(self._folder, path) as (parent, name):
            try:
                os.symlink(target, name, dir_fd=parent)
            except FileExistsError:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=parent) == target:
                    return False
                raise
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        return True

    async def delete(self, path: str) -> None:
        """A file, a symlink (not what it leads to), or an empty directory."""
        await self._do(lambda: self._delete(path), path)

    def _delete(self, path: str) -> None:
        with beneath.parent_inside(self._folder, path) as (parent, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.rmdir(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)


def _seen(folder: int, path: str) -> int:
    """A descriptor to look at and nothing else; symlinks are followed within the tree."""
    return beneath.openat2(folder, path.lstrip("/") or ".", os.O_PATH, 0, beneath.INSIDE)


async def gathered(data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Small pieces put together, so that each write pays for its thread hop."""
    parts: list[bytes] = []
    size = 0
    async for piece in data:
        parts.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
