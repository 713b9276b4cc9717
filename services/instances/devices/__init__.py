"""The types of devices. This tuple is the list of them; what LXD has besides is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from services.instances.devices.device import DeviceType, Unsupported
from services.instances.devices.disk import Disk
from services.instances.devices.nic import Nic
from services.instances.devices.none import NoDevice

TYPES: tuple[DeviceType, ...] = (
    NoDevice(),
    Nic(),
    Disk(),
    *(
        Unsupported(name)
        for name in (
            "unix-char", "unix-block", "unix-hotplug", "usb", "gpu", "infiniband", "proxy", "tpm", "pci",
        )
    ),
)  # fmt: skip
BY_NAME = {type_.name: type_ for type_ in TYPES}


def type_of(config: Mapping[str, str]) -> DeviceType:
    """The type of a device. Raises ValueError as LXD words it."""
    found = BY_NAME.get(config.get("type", ""))
    if found is None:
        raise ValueError(f"Invalid device type {config.get('type', '')}")
    return found
