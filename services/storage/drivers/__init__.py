"""The storage drivers. `DRIVERS` is the one list of them."""

from __future__ import annotations

from chassis import errors
from services.storage.drivers.btrfs import BtrfsDriver
from services.storage.drivers.dir import DirDriver
from services.storage.drivers.driver import Driver, Fill, Place, Space, Usage
from services.storage.drivers.volume import VolumeName

__all__ = ["DRIVERS", "Driver", "Fill", "Place", "Space", "Usage", "VolumeName", "available", "driver_named"]

DRIVERS: tuple[type[Driver], ...] = (BtrfsDriver, DirDriver)


def driver_named(name: str) -> type[Driver]:
    for driver in DRIVERS:
        if driver.name == name:
            return driver
    raise errors.Internal("Unknown driver")


async def available() -> dict[str, str]:
    """The drivers that work on this machine, and the version of what each stands on."""
    found: dict[str, str] = {}
    for driver in DRIVERS:
        try:
            found[driver.name] = await driver.version()
        except errors.Fault:
            continue
    return found
