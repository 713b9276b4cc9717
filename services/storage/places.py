"""The pools of this machine, as drivers: opened at the start, found by name, and who uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import structlog

from chassis import errors
from chassis.kinds import Versioned
from chassis.references import in_project
from chassis.store import Store
from chassis.troubles import Tell, untold
from rows.image import IMAGE
from rows.profile import PROFILE
from rows.storage import POOL, VOLUME, VOLUME_SNAPSHOT, Pool, Volume
from services.storage.drivers import Driver, Place, driver_named
from services.storage.urls import snapshot_url, volume_url

log = structlog.get_logger(__name__)


class Places:
    """Pools by name. A driver is kept as long as the configuration of its pool stays the same."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.pools = store.mirror(POOL)
        self.volumes = store.mirror(VOLUME)
        self.snapshots = store.mirror(VOLUME_SNAPSHOT)
        self.profiles = store.mirror(PROFILE)
        self.images = store.mirror(IMAGE).index("fingerprint", lambda image: [image.fingerprint])
        self.broken: dict[str, str] = {}
        self.tell: Tell = untold
        self._drivers: dict[str, tuple[dict[str, str], Driver]] = {}
        self._by_pool = self.volumes.index("pool", lambda volume: [volume.pool])
        self._profiles_by_pool = self.profiles.index("pool", lambda profile: _pools_of(profile.devices))

    def place(self, name: str, config: dict[str, str], token: str = "") -> Place:
        return Place(name, self.directory / "storage-pools" / name, self.directory / "disks", config, token)

    def make(self, driver: str, name: str, config: dict[str, str], token: str = "") -> Driver:
        """A driver for a pool that need not exist."""
        return driver_named(driver)(self.place(name, config, token))

    def one(self, name: str) -> Versioned[Pool]:
        row = self.pools.get(name)
        if row is None:
            raise errors.NotFound("Storage pool not found")
        return row

    def driver(self, name: str) -> Driver:
        """The driver of a pool. Raises NotFound, or Internal while the pool cannot be used on this machine."""
        row = self.one(name)
        if name in self.broken:
            raise errors.Internal(f"Storage pool {name!r} is not available on this server: {self.broken[name]}")
        kept = self._drivers.get(name)
        if kept is None or kept[0] != row.value.config:
            kept = row.value.config, self.make(row.value.driver, name, row.value.config)
            self._drivers[name] = kept
        return kept[1]

    async def open(self, name: str) -> None:
        """Make a pool usable; what goes wrong is kept and told to who wants to use it."""
        row = self.one(name)
        try:
            await self.make(row.value.driver, name, row.value.config).open()
        except (errors.Fault, OSError) as error:
            self.broken[name] = getattr(error, "text", str(error))
            log.error("A storage pool cannot be opened", pool=name, reason=self.broken[name])
        else:
            self.broken.pop(name, None)
        await self.tell(f"/1.0/storage-pools/{name}", "", self.broken.get(name, ""))

    async def open_all(self) -> None:
        await asyncio.gather(*(self.open(row.value.name) for row in self.pools.select()))

    async def close_all(self) -> None:
        """Take the pools off the host; they come back at the next start."""
        for row in list(self.pools.select()):
            await self.make(row.value.driver, row.value.name, row.value.config).close()

    async def reopen_broken(self) -> None:
        """Try again what could not be opened."""
        for name in list(self.broken):
            if self.pools.get(name) is None:
                del self.broken[name]
            else:
                await self.open(name)
        for row in list(self.pools.select()):
            if row.value.name not in self.broken:
                await self.tell(f"/1.0/storage-pools/{row.value.name}", "", "")

    def volumes_in(self, pool: str) -> Iterator[Versioned[Volume]]:
        return self._by_pool.select(pool)

    def used_by(self, pool: str) -> list[str]:
        """URLs of what lies on a pool or names it, sorted."""
        found = {url for row in self.volumes_in(pool) for url in self._urls_of(row.value)}
        for row in self._profiles_by_pool.select(pool):
            found.add(in_project(f"/1.0/profiles/{quote(row.value.name)}", row.value.project))
        return sorted(found)

    def _urls_of(self, volume: Volume) -> Iterator[str]:
        """What lies in a volume: an image stands in each project that has it, a custom volume beside its snapshots."""
        if volume.type != "image":
            yield url_of(volume)
        for image in self.images.select(volume.name) if volume.type == "image" else ():
            yield in_project(f"/1.0/images/{volume.name}", image.value.project)
        if volume.type == "custom":
            for row in self.snapshots.select(volume.pool, volume.project, volume.type, volume.name):
                yield snapshot_url(volume.pool, volume.type, volume.name, row.value.name, volume.project)

    def is_used(self, pool: str) -> bool:
        """Images do not count: they can be unpacked again."""
        return any(not url.startswith("/1.0/images/") for url in self.used_by(pool))


def _pools_of(devices: dict[str, dict[str, str]]) -> list[str]:
    """The pools that the disks of a profile lie on."""
    return sorted({d["pool"] for d in devices.values() if d.get("type") == "disk" and d.get("pool")})


def url_of(volume: Volume) -> str:
    """What a volume stands for: the instance, the image, or the custom volume itself."""
    if volume.type == "image":
        return f"/1.0/images/{volume.name}"
    if volume.type == "custom":
        return volume_url(volume.pool, "custom", volume.name, volume.project)
    return in_project(f"/1.0/instances/{quote(volume.name)}", volume.project)
