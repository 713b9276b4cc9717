"""dir pools on the host."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from chassis import durable, errors
from chassis.keys import Config
from services.storage.drivers import host
from services.storage.drivers.dir import keys
from services.storage.drivers.dir.plan import Bind, Facts, plan_create, plan_open
from services.storage.drivers.driver import Fill, Place, Usage
from services.storage.drivers.keys import BWLIMIT
from services.storage.drivers.tree import TreeDriver
from services.storage.drivers.volume import LAYOUT, VolumeName


class DirDriver(TreeDriver):
    name = "dir"
    pool_keys: ClassVar = keys.POOL
    volume_keys: ClassVar = keys.VOLUME

    @classmethod
    async def version(cls) -> str:
        return "1"

    @classmethod
    def complete(cls, place: Place) -> dict[str, str]:
        source = place.config.get("source") or str(place.path)
        if not source.startswith("/"):
            raise errors.Internal(f"Source path '{source}' isn't absolute")
        return {**place.config, "source": os.path.normpath(source)}

    @property
    def source(self) -> Path:
        return Path(self.place.config.get("source") or self.place.path)

    @property
    def facts(self) -> Facts:
        source = self.source
        there = source.is_dir()
        empty = there and host.holds_only(source, LAYOUT)
        return Facts(there, empty, host.mounted_at(self.place.path) is not None)

    async def create(self) -> dict[str, str]:
        await self._apply(plan_create(self.source, self.place.path, self.facts))
        self.lay_out()
        for folder in (self.place.path, self.place.path.parent):
            await asyncio.to_thread(durable.sync_folder, folder)
        return dict(self.place.config)

    async def open(self) -> None:
        await self._apply(plan_open(self.source, self.place.path, self.facts))
        self.lay_out()
        await host.remove_tree(*self.halves())

    async def _apply(self, changes: list[Bind]) -> None:
        self.place.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        for change in changes:
            await host.mount(change.source, change.target, "--bind")

    async def close(self) -> None:
        await host.unmount(self.place.path)

    async def destroy(self) -> None:
        """The folders of the layout; in a source folder of somebody else nothing but them."""
        await self.close()
        source = self.source
        await host.remove_tree(*(source / name for name in LAYOUT))
        with suppress(FileNotFoundError):
            self.place.path.rmdir()

    # Volumes.

    async def make(self, volume: VolumeName, fill: Fill | None = None) -> None:
        work = self._begin(volume)
        try:
            if fill is not None:
                await fill(work)
        except BaseException:
            await host.remove_tree(work)
            self.forget_snapshots_folder(volume)
            raise
        await self._finish(volume, work, fill is not None)

    def _begin(self, volume: VolumeName) -> Path:
        if self.path(volume).exists():
            raise errors.Conflict("Volume by that name already exists")
        work = self.work(volume)
        work.parent.mkdir(mode=0o711, exist_ok=True)
        with suppress(FileExistsError):
            work.mkdir(mode=0o700)
            work.chmod(volume.mode)
            return work
        raise errors.Conflict(f"The {volume} is being made already")

    async def _finish(self, volume: VolumeName, work: Path, filled: bool) -> None:
        if volume.type != "custom":  # the owner of a custom volume may change the mode of its root
            work.chmod(volume.mode)
        await self.name_whole(work, self.path(volume), filled=filled)

    async def copy(self, source: VolumeName, target: VolumeName) -> None:
        there = await self.mount(source)
        bwlimit = Config(self.place.config)[BWLIMIT]
        await self.make(target, lambda work: host.copy_tree(there, work, bwlimit=bwlimit))

    async def restore(self, volume: VolumeName, snapshot: str) -> None:
        there, now = await self.mount(volume.at(snapshot)), await self.mount(volume)
        work = self.work(volume)
        await host.remove_tree(work)
        work.mkdir(mode=0o700)
        try:
            await host.copy_tree(there, work)
            work.chmod(volume.mode)
            await self.exchange_whole(work, now)
        finally:
            await host.remove_tree(work)

    async def remove(self, volume: VolumeName) -> None:
        """Gone from the disk too: what a power cut brought back the next volume of that name would take for its own."""
        path, gone = self.path(volume), self.place.path / volume.gone_path
        if path.exists():
            await host.remove_tree(gone)
            await asyncio.to_thread(durable.rename, path, gone)
        snapshots = self.place.path / volume.snapshots_path
        if not volume.snapshot and snapshots.exists():
            await host.remove_tree(snapshots)
            await asyncio.to_thread(durable.sync_folder, snapshots.parent)
        await host.remove_tree(gone, self.work(volume))
        self.forget_snapshots_folder(volume)

    async def usage(self, volume: VolumeName) -> Usage | None:
        return None

    async def resize(self, volume: VolumeName, size: int) -> bool:
        """The kernel's project quotas would do it; they are not used, as most root file systems have none."""
        return False
