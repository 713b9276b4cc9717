"""A pool of each driver, made and removed for each test. A driver joins the suite by an entry in `POOLS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis import errors
from services.storage.drivers import Driver, Place, driver_named, host

POOLS: dict[str, dict[str, str]] = {
    "dir": {},
    "btrfs": {"size": "256MiB"},
}


@dataclass
class Pool:
    """A driver, and how to make another one for the same pool (as a restarted service does)."""

    driver: Driver
    again: Callable[[], Driver]
    directory: Path


def _place(directory: Path, config: dict[str, str]) -> Place:
    return Place("pool", directory / "storage-pools" / "pool", directory / "disks", config)


async def available(name: str) -> None:
    try:
        await driver_named(name).version()
    except errors.Fault as fault:
        pytest.skip(f"{name} does not work on this machine: {fault.text}")


@pytest.fixture(params=sorted(POOLS))
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pool]:
    cls = driver_named(request.param)
    await available(cls.name)
    config = cls.complete(_place(tmp_path, POOLS[cls.name]))
    made = Pool(cls(_place(tmp_path, config)), lambda: cls(_place(tmp_path, config)), tmp_path)
    try:
        await made.driver.create()
        yield made
    finally:
        await made.driver.destroy()
        assert not host.mounted_at(made.driver.place.path)
        assert not made.driver.place.path.exists()
        disks = tmp_path / "disks"
        assert not disks.exists() or not list(disks.iterdir())
        await no_loop_device_is_left(tmp_path)


async def no_loop_device_is_left(folder: Path) -> None:
    """The kernel lets go of one some moments after the last mount of it, wherever that was."""
    for _ in range(200):
        if str(folder) not in await loop_devices():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"a loop device is left: {await loop_devices()}")


async def loop_devices() -> str:
    process = await asyncio.create_subprocess_exec("losetup", "-a", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()
