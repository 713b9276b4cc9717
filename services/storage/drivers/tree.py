"""Volumes that are folders: what dir and btrfs have in common, which is where things lie and how names change."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from chassis import durable, errors
from services.storage.drivers import host
from services.storage.drivers.driver import Driver, Space
from services.storage.drivers.volume import GONE, LAYOUT, WORK, VolumeName


class TreeDriver(Driver):
    """A mounted folder with LXD's layout in it."""

    def path(self, volume: VolumeName) -> Path:
        return self.place.path / volume.path

    def work(self, volume: VolumeName) -> Path:
        return self.place.path / volume.work_path

    def lay_out(self) -> None:
        """The folders that hold volumes. Who is not root of the host finds no way to custom ones: owners stand unshifted in them, so a
        program that root of a container left there with its setuid bit would make root of the host."""
        for name in LAYOUT:
            folder = self.place.path / name
            mode = 0o700 if name.startswith("custom") else 0o711
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            folder.chmod(mode)

    def halves(self) -> list[Path]:
        """What a killed process left half made or half removed."""
        folders = [self.place.path / name for name in LAYOUT]
        nested = [
            inner
            for folder in folders
            if folder.name.endswith("-snapshots") and folder.is_dir()
            for inner in folder.iterdir()
        ]
        return host.leftovers([*folders, *(path for path in nested if path.is_dir())], (WORK, GONE))

    async def exists(self, volume: VolumeName) -> bool:
        return self.path(volume).is_dir()

    async def mount(self, volume: VolumeName) -> Path:
        path = self.path(volume)
        if not path.is_dir():
            raise errors.NotFound("Storage pool volume not found")
        return path

    async def rename(self, volume: VolumeName, target: VolumeName) -> None:
        await asyncio.to_thread(self._rename, self.path(volume), self.path(target))
        if not volume.snapshot:
            snapshots, renamed = self.place.path / volume.snapshots_path, self.place.path / target.snapshots_path
            await asyncio.to_thread(self._rename, snapshots, renamed)

    @staticmethod
    def _rename(old: Path, new: Path) -> None:
        """Idempotent: what is not there any more was renamed by an earlier run."""
        if not os.path.lexists(old):
            return
        if os.path.lexists(new):
            raise errors.Conflict("Volume by that name already exists")
        new.parent.mkdir(mode=0o711, exist_ok=True)
        durable.rename(old, new)

    @staticmethod
    async def name_whole(work: Path, path: Path, *, filled: bool = True) -> None:
        """Give what is whole its name, and no earlier on the disk than its content (of a clone that is there already)."""
        if filled:
            await asyncio.to_thread(durable.sync_tree, work)
        await asyncio.to_thread(durable.rename, work, path)

    @staticmethod
    async def exchange_whole(work: Path, now: Path, *, filled: bool = True) -> None:
        """The same where another has the name, which gets the working name for it."""
        if filled:
            await asyncio.to_thread(durable.sync_tree, work)
        host.exchange(work, now)
        await asyncio.to_thread(durable.sync_folder, now.parent)

    def forget_snapshots_folder(self, volume: VolumeName) -> None:
        """Remove the folder of a volume's snapshots if it is empty."""
        with suppress(OSError):
            (self.place.path / volume.snapshots_path).rmdir()

    async def space(self) -> Space:
        found = os.statvfs(self.place.path)
        free = found.f_bfree * found.f_frsize
        total = found.f_blocks * found.f_frsize
        return Space(total - free, total, found.f_files - found.f_ffree, found.f_files)
