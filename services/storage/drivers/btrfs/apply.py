"""btrfs pools on the host."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from chassis import durable, errors, units
from chassis.command import Command, Failed, find, missing
from chassis.keys import Config
from services.storage.drivers import host
from services.storage.drivers.btrfs import keys, subvolumes
from services.storage.drivers.btrfs.facts import look, source_kind
from services.storage.drivers.btrfs.plan import (
    Change,
    Format,
    LoopFile,
    MountDevice,
    MountFolder,
    Subvolume,
    default_size,
    kind_of_name,
    plan_create,
    plan_open,
)
from services.storage.drivers.driver import Fill, Place, Usage
from services.storage.drivers.tree import TreeDriver
from services.storage.drivers.volume import LAYOUT, VolumeName

TOOLS = ("btrfs", "mkfs.btrfs", "mount", "umount", "losetup", "blkid", "wipefs")


class BtrfsDriver(TreeDriver):
    name = "btrfs"
    quotas = True
    clones = True
    pool_keys: ClassVar = keys.POOL
    volume_keys: ClassVar = keys.VOLUME

    @classmethod
    async def version(cls) -> str:
        filesystems = Path("/proc/filesystems").read_text().split()
        if "btrfs" not in filesystems:
            raise errors.Internal('Error loading "btrfs" module: the kernel has no btrfs')
        for tool in TOOLS:
            if find(tool) is None:
                raise missing(tool)
        return await subvolumes.version()

    @classmethod
    def complete(cls, place: Place) -> dict[str, str]:
        config = dict(place.config)
        source = config.get("source", "")
        if not source or source == str(cls.loop_file(place)):
            place.disks.parent.mkdir(parents=True, exist_ok=True)
            free = os.statvfs(place.disks.parent)
            config["source"] = str(cls.loop_file(place))
            config.setdefault("size", units.show_bytes_iec(default_size(free.f_bavail * free.f_frsize), 0))
        elif kind_of_name(source) == "path":
            if not source.startswith("/"):
                raise errors.Internal(f"Source path '{source}' isn't absolute")
            if source_kind(source) == "block" and config.get("size"):
                raise errors.Internal("Cannot specify size for an existing block device")
            config["volatile.initial_source"] = source
        return config

    @staticmethod
    def loop_file(place: Place) -> Path:
        return place.disks / f"{place.name}.img"

    @property
    def source(self) -> str:
        return self.place.config.get("source") or str(self.loop_file(self.place))

    @property
    def options(self) -> str:
        return Config(self.place.config)[keys.MOUNT_OPTIONS]

    @property
    def on_loop(self) -> bool:
        return self.source == str(self.loop_file(self.place))

    # The pool.

    async def create(self) -> dict[str, str]:
        size = Config(self.place.config)[keys.SIZE]
        facts = await look(self.source, self.place.path, loop=self.on_loop)
        place = self.place
        await self._apply(plan_create(place.name, place.token, self.source, place.path, size, self.options, facts))
        self.lay_out()
        await subvolumes.enable_quota(self.place.path)
        await asyncio.to_thread(self._sync)
        config = dict(self.place.config)
        if facts.kind == "block" and (found := await subvolumes.uuid_of(self.source)):
            config["source"] = found
        return config

    def _sync(self) -> None:
        """A new pool, with the file that it lies in and the names of both."""
        durable.sync_tree(self.place.path)
        durable.sync_folder(self.place.path.parent)
        if self.on_loop:
            durable.sync_file(self.loop_file(self.place))
            durable.sync_folder(self.place.disks)

    async def open(self) -> None:
        facts = await look(self.source, self.place.path, loop=self.on_loop)
        await self._apply(plan_open(self.source, self.place.path, self.options, facts))
        self.lay_out()
        for half in self.halves():
            await self._erase(half)

    async def _apply(self, changes: list[Change]) -> None:
        self.place.path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        for change in changes:
            await self._do(change)

    async def _do(self, change: Change) -> None:
        match change:
            case LoopFile(path, size):
                self._make_loop_file(path, size)
            case Format(device, label, uuid):
                identity = ("-U", uuid) if uuid else ()
                await Command("mkfs.btrfs", "-q", "-L", label, *identity, "--", str(device)).run()
            case Subvolume(path):
                await subvolumes.create(path)
            case MountDevice(source, target, options, loop):
                await self._mount(source, target, "-t", "btrfs", "-o", f"loop,{options}" if loop else options)
            case MountFolder(source, target):
                await self._mount(source, target, "--bind")

    @staticmethod
    async def _mount(source: str | Path, target: Path, *options: str) -> None:
        """A mount point that nothing could be mounted on is not left: its pool may be on its way out."""
        target.mkdir(mode=0o711, exist_ok=True)
        try:
            await host.mount(source, target, *options)
        except BaseException:
            with suppress(OSError):
                target.rmdir()
            raise

    @staticmethod
    def _make_loop_file(path: Path, size: int) -> None:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(file, size)
        finally:
            os.close(file)

    async def close(self) -> None:
        await host.unmount(self.place.path)

    async def destroy(self) -> None:
        kind = "file" if self.on_loop else source_kind(self.source)
        if kind == "folder":
            await self._destroy_folder(Path(self.source))
        await self.close()
        if kind == "file":
            self.loop_file(self.place).unlink(missing_ok=True)
        elif kind in ("block", "uuid"):
            await self._wipe()
        with suppress(FileNotFoundError):
            self.place.path.rmdir()

    async def _wipe(self) -> None:
        """Take the file system off the device, unless it is of somebody else: a device that could not become a pool is left as it was."""
        device = self.source if self.source.startswith("/") else f"/dev/disk/by-uuid/{self.source}"
        if source_kind(device) != "block":
            return
        facts = await look(device, self.place.path, loop=False)
        ours = facts.uuid == self.place.token if self.place.token else facts.label == self.place.name
        if facts.fstype == "btrfs" and ours:
            await Command("wipefs", "-a", "-q", "--", device).run()

    async def _destroy_folder(self, folder: Path) -> None:
        for kind in LAYOUT:
            base = folder / kind
            for path in await subvolumes.below(base):
                await subvolumes.delete(path)
            await host.remove_tree(base)
        if folder == self.place.path and subvolumes.is_subvolume(folder):
            await subvolumes.delete(folder)

    async def update(self, config: Mapping[str, str]) -> None:
        size = Config(config)[keys.SIZE]
        if size != Config(self.place.config)[keys.SIZE]:
            await self._grow(size)
        options = Config(config)[keys.MOUNT_OPTIONS]
        if options != self.options:
            await Command("mount", "-o", f"remount,{options}", "--", str(self.place.path)).run()

    async def _grow(self, size: int) -> None:
        """A larger loop file, and the file system in it. Idempotent."""
        if not self.on_loop:
            raise errors.Internal("Only a pool on a loop file of its own has a size")
        file = self.loop_file(self.place)
        if size < file.stat().st_size:
            raise errors.Internal("Pool cannot be shrunk")
        os.truncate(file, size)
        mounted = host.mounted_at(self.place.path)
        if mounted is not None and mounted.source.startswith("/dev/loop"):
            await Command("losetup", "-c", mounted.source).run()
        await Command("btrfs", "filesystem", "resize", "max", str(self.place.path)).run()

    # Volumes.

    async def make(self, volume: VolumeName, fill: Fill | None = None) -> None:
        work = self._begin(volume)
        await subvolumes.create(work)
        try:
            work.chmod(volume.mode)
            if fill is not None:
                await fill(work)
            if volume.type != "custom":
                work.chmod(volume.mode)
            if volume.type == "image" or volume.snapshot:
                await subvolumes.freeze(work)
        except BaseException:
            await self._erase(work)
            raise
        await self.name_whole(work, self.path(volume), filled=fill is not None)

    def _begin(self, volume: VolumeName) -> Path:
        if self.path(volume).exists():
            raise errors.Conflict("Volume by that name already exists")
        work = self.work(volume)
        work.parent.mkdir(mode=0o711, exist_ok=True)
        if work.exists():
            raise errors.Conflict(f"The {volume} is being made already")
        return work

    async def copy(self, source: VolumeName, target: VolumeName) -> None:
        there = await self.mount(source)
        work = self._begin(target)
        await subvolumes.snapshot(there, work, readonly=bool(target.snapshot))
        await self.name_whole(work, self.path(target), filled=False)

    async def restore(self, volume: VolumeName, snapshot: str) -> None:
        there, now = await self.mount(volume.at(snapshot)), await self.mount(volume)
        work = self.work(volume)
        await self._erase(work)
        limit = await subvolumes.usage(now)
        await subvolumes.snapshot(there, work, readonly=False)
        try:
            if limit and limit.total:
                await subvolumes.limit(work, limit.total)
            await self.exchange_whole(work, now, filled=False)
        finally:
            await self._erase(work)

    async def remove(self, volume: VolumeName) -> None:
        if not volume.snapshot:
            folder = self.place.path / volume.snapshots_path
            if folder.is_dir():
                for snapshot in folder.iterdir():
                    await self._erase(snapshot)
        await self._erase(self.work(volume))
        await self._erase(self.path(volume))
        await asyncio.to_thread(durable.sync_folder, self.path(volume).parent)
        self.forget_snapshots_folder(volume)

    async def _erase(self, path: Path) -> None:
        if subvolumes.is_subvolume(path):
            await subvolumes.delete(path)
        else:
            await host.remove_tree(path)

    async def usage(self, volume: VolumeName) -> Usage | None:
        return await subvolumes.usage(await self.mount(volume))

    async def resize(self, volume: VolumeName, size: int) -> bool:
        try:
            await subvolumes.limit(await self.mount(volume), size)
        except Failed as failure:
            if "quota not enabled" not in failure.stderr.lower():
                raise
            await subvolumes.enable_quota(self.place.path)
            await subvolumes.limit(await self.mount(volume), size)
        return True
