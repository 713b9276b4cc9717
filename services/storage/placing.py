"""Volumes on this machine as other services ask for them: made, mounted, renamed, removed; each may be asked for again.

What always holds: a volume's row is written after the volume is whole and removed after it is gone; whichever of the two a crash
prevented is made up for by asking again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from chassis import errors, units
from chassis.change import Change
from chassis.store import Store
from rows.storage import VOLUME, VOLUME_SNAPSHOT, Volume
from services.storage.drivers import Driver, Usage, VolumeName, host
from services.storage.drivers.driver import Fill
from services.storage.parts import Parts
from services.storage.unpack import unpack_image

log = structlog.get_logger(__name__)


class Placing:
    """The volumes of this machine's pools."""

    def __init__(self, store: Store, parts: Parts) -> None:
        self.store = store
        self.parts = parts
        self.places = parts.places

    def driver(self, pool: str) -> Driver:
        return self.places.driver(pool)

    async def ensure(
        self,
        pool: str,
        volume: VolumeName,
        *,
        image: str = "",
        copy: tuple[str, VolumeName] | None = None,
        config: dict[str, str] | None = None,
        description: str = "",
        content_type: str = "filesystem",
    ) -> Path:
        """Make a volume if it is not there: from an image, as a copy of (pool, volume), or empty. Its mount point."""
        driver = self.driver(pool)
        config = config or {}
        async with self.parts.busy.held((pool, volume)):
            if not await driver.exists(volume):
                await self._make(driver, volume, image, copy)
                await self._limit(driver, volume, config)
            await self._write_row(pool, volume, config, description, content_type)
        return await driver.mount(volume)

    async def _make(self, driver: Driver, volume: VolumeName, image: str, copy: tuple[str, VolumeName] | None) -> None:
        if image:
            await self._from_image(driver, volume, image)
        elif copy is not None:
            await self._copy(driver, volume, *copy)
        else:
            await driver.make(volume)

    async def _from_image(self, driver: Driver, volume: VolumeName, fingerprint: str) -> None:
        async def fill(work: Path) -> None:
            async with self.parts.trees.held(fingerprint) as tree:
                await host.copy_tree(tree, work)

        if driver.clones:
            kept = VolumeName("image", "default", fingerprint)
            await self.keep_image(driver, kept)
            await driver.copy(kept, volume)
        else:
            await driver.make(volume, fill)

    async def keep_image(self, driver: Driver, image: VolumeName) -> None:
        """The image unpacked in a pool that clones."""
        pool = driver.place.name

        async def fill(work: Path) -> None:
            async with self.parts.source.files(image.name) as files:
                await unpack_image(files, work)

        async with self.parts.busy.held((pool, image)):
            if not await driver.exists(image):
                await driver.make(image, fill)
            await self._write_row(pool, image, {}, "", "filesystem")

    async def _copy(self, driver: Driver, volume: VolumeName, pool: str, source: VolumeName) -> None:
        if pool == driver.place.name:
            await driver.copy(source, volume)
            return
        there = await self.driver(pool).mount(source)
        await driver.make(volume, copying(there))

    async def _limit(self, driver: Driver, volume: VolumeName, config: dict[str, str]) -> None:
        size = units.parse_bytes(config["size"]) if config.get("size") else 0
        if size and not await driver.resize(volume, size):
            log.warning("This pool cannot limit the size of a volume", pool=driver.place.name, volume=str(volume))

    async def _write_row(
        self, pool: str, volume: VolumeName, config: dict[str, str], description: str, content_type: str
    ) -> None:
        """Nothing happens if there is one."""
        if volume.snapshot or self.places.volumes.get(pool, volume.project, volume.type, volume.name) is not None:
            return
        row = Volume(
            pool=pool,
            project=volume.project,
            type=volume.type,
            name=volume.name,
            content_type=content_type,
            description=description,
            config=config,
            created_at=datetime.now(UTC),
            member=self.parts.member,
        )
        await self.store.commit(Change().put(VOLUME, row, expect=0))

    async def mount(self, pool: str, volume: VolumeName) -> Path:
        return await self.driver(pool).mount(volume)

    async def unmount(self, pool: str, volume: VolumeName) -> None:
        await self.driver(pool).unmount(volume)

    async def remove(self, pool: str, volume: VolumeName) -> None:
        """Idempotent; a pool that is gone has no volumes."""
        if self.places.pools.get(pool) is None:
            return
        driver = self.driver(pool)
        async with self.parts.busy.held((pool, volume)):
            await driver.remove(volume)
            change = Change()
            key = (pool, volume.project, volume.type, volume.name)
            if volume.snapshot:
                change = self._deletion_of_snapshots(change, key, volume.snapshot)
            else:
                change = self._deletion_of_snapshots(change, key)
                if self.places.volumes.get(*key) is not None:
                    change.delete(VOLUME, key, expect=None)
            if change:
                await self.store.commit(change)

    def _deletion_of_snapshots(self, change: Change, key: tuple[str, str, str, str], only: str = "") -> Change:
        for row in self.places.snapshots.select(*key):
            if not only or row.value.name == only:
                change.delete(VOLUME_SNAPSHOT, row.key, expect=None)
        return change

    async def rename(self, pool: str, volume: VolumeName, target: VolumeName) -> Path:
        """Idempotent: an earlier run may have done any part of it."""
        driver = self.driver(pool)
        async with self.parts.busy.held((pool, volume)), self.parts.busy.held((pool, target)):
            old = self.places.volumes.get(pool, volume.project, volume.type, volume.name)
            if not await driver.exists(volume) and not await driver.exists(target):
                raise errors.NotFound("Storage pool volume not found")
            await driver.rename(volume, target)
            if old is not None and not volume.snapshot:
                await self.store.commit(self.renaming(old.key, old.value, target))
        return await driver.mount(target)

    def renaming(self, key: tuple[str, ...], volume: Volume, target: VolumeName) -> Change:
        """The rows of a volume and its snapshots under another name."""
        change = Change()
        change.delete(VOLUME, key, expect=None)
        renamed = msgspec.structs.replace(volume, name=target.name, project=target.project)
        change.put(VOLUME, renamed, expect=None)
        for row in self.places.snapshots.select(*key):
            change.delete(VOLUME_SNAPSHOT, row.key, expect=None)
            moved = msgspec.structs.replace(row.value, volume=target.name, project=target.project)
            change.put(VOLUME_SNAPSHOT, moved, expect=None)
        return change

    async def drop_images(self, known: Callable[[str], bool]) -> None:
        """Remove from the pools what was kept of images that are gone."""
        for row in list(self.places.volumes.select()):
            volume = row.value
            if volume.type == "image" and volume.pool not in self.places.broken and not known(volume.name):
                await self.remove(volume.pool, VolumeName("image", volume.project, volume.name))

    async def snapshot(self, pool: str, volume: VolumeName, name: str) -> None:
        """Idempotent: one that exists was made by an earlier run."""
        driver = self.driver(pool)
        async with self.parts.busy.held((pool, volume)):
            if not await driver.exists(volume.at(name)):
                await driver.copy(volume, volume.at(name))

    async def restore(self, pool: str, volume: VolumeName, name: str) -> None:
        driver = self.driver(pool)
        async with self.parts.busy.held((pool, volume)):
            await driver.restore(volume, name)

    async def usage(self, pool: str, volume: VolumeName) -> Usage | None:
        return await self.driver(pool).usage(volume)

    async def set_quota(self, pool: str, volume: VolumeName, size: str) -> None:
        """`size` as LXD writes it, "" = no limit. Raises BadRequest for what is no size."""
        try:
            wanted = units.parse_bytes(size) if size else 0
        except ValueError as reason:
            raise errors.BadRequest(f'Invalid value for option "size": {reason}') from None
        if not await self.driver(pool).resize(volume, wanted) and wanted:
            log.warning("This pool cannot limit the size of a volume", pool=pool, volume=str(volume))


def copying(source: Path) -> Fill:
    """Fill a volume with what a folder holds."""

    async def fill(work: Path) -> None:
        await host.copy_tree(source, work)

    return fill
