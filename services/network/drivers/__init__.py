"""The types of networks. One tuple: a type that is not in it does not exist."""

from __future__ import annotations

from services.network.drivers.bridge.driver import Bridge
from services.network.drivers.driver import Driver
from services.network.drivers.macvlan.driver import Macvlan

DRIVERS: tuple[Driver, ...] = (Bridge(), Macvlan())


def find(type_: str) -> Driver | None:
    return next((driver for driver in DRIVERS if driver.type == type_), None)
