"""Making and removing pools, with everything that can go wrong on the way."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chassis import errors
from chassis.command import Command
from chassis.store import Change, Store
from chassis.testing.sagas import check_saga
from rows.storage import POOL, Pool
from services.storage.drivers import driver_named, host
from services.storage.parts import Parts
from services.storage.places import Places
from services.storage.sagas import pool as sagas

TOKEN = "5c6f6c52-1f0a-4a1e-8f6e-6a2f6ad0c0de"


class PoolWorld:
    """A directory of a server that outlives the kills of the service."""

    locks: Sequence[tuple[str, str, str]] = (("storage-pool", "", "p1"),)
    removing = False

    def __init__(self, base: Path, driver: str, config: dict[str, str]) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=base))
        self.driver = driver
        place = Places.place(self, "p1", config)  # type: ignore[arg-type]
        self.config = driver_named(driver).complete(place)
        self.args: dict[str, Any] = sagas.create_args("p1", driver, "", self.config, TOKEN)
        self.places: Places | None = None

    def parts(self, store: Store) -> Parts:
        parts = Parts.of(self.directory, store, lambda _: True)
        self.places = parts.places
        return parts

    async def given(self, store: Store) -> None: ...

    @property
    def row(self) -> Pool | None:
        assert self.places is not None
        found = self.places.pools.get("p1")
        return found.value if found else None

    @property
    def path(self) -> Path:
        return self.directory / "storage-pools" / "p1"

    def leftovers(self) -> list[str]:
        mounted = [mount.target for mount in host.mounts() if mount.target.startswith(str(self.directory))]
        files = [str(path) for name in ("storage-pools", "disks") for path in (self.directory / name).glob("*")]
        return [*mounted, *files, *(["row"] if self.row else [])]

    def achieved(self) -> list[str]:
        there = (self.path / "containers").is_dir()
        return [*([] if self.row else ["row"]), *([] if there else ["folders"])]


class RemovedPoolWorld(PoolWorld):
    """The pool is there; it is what a failed removal may leave."""

    def __init__(self, base: Path, driver: str, config: dict[str, str]) -> None:
        super().__init__(base, driver, config)
        self.pool = Pool(name="p1", driver=driver, config=self.config)
        self.args = sagas.delete_args(self.pool)

    async def given(self, store: Store) -> None:
        assert self.places is not None
        await self.places.make(self.driver, "p1", self.config).create()
        await store.commit(Change().put(POOL, self.pool, expect=0))

    def leftovers(self) -> list[str]:
        return [] if self.row else ["the row is gone after a failure"]

    def achieved(self) -> list[str]:
        return super().leftovers()


@pytest.mark.saga(sagas.CREATE)
async def test_making_a_dir_pool(tmp_path: Path) -> None:
    assert await check_saga(sagas.CREATE, lambda: PoolWorld(tmp_path, "dir", {})) > 10


@pytest.mark.saga(sagas.DELETE)
async def test_removing_a_dir_pool(tmp_path: Path) -> None:
    assert await check_saga(sagas.DELETE, lambda: RemovedPoolWorld(tmp_path, "dir", {})) > 10


@pytest.fixture
async def base(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A folder in which what is still mounted at the end is unmounted: a successful world keeps its pool."""
    try:
        await driver_named("btrfs").version()
    except errors.Fault as fault:
        pytest.skip(fault.text)
    yield tmp_path
    for mount in reversed(host.mounts()):
        if mount.target.startswith(str(tmp_path)):
            await Command("umount", "--", mount.target).run()
    shutil.rmtree(tmp_path)


async def test_making_a_btrfs_pool(base: Path) -> None:
    assert await check_saga(sagas.CREATE, lambda: PoolWorld(base, "btrfs", {"size": "128MiB"})) > 10


async def test_removing_a_btrfs_pool(base: Path) -> None:
    assert await check_saga(sagas.DELETE, lambda: RemovedPoolWorld(base, "btrfs", {"size": "128MiB"})) > 10
