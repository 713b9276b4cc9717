"""The configuration keys of a project. What nothing enforces yet is declared with that reason and refused."""

from __future__ import annotations

from typing import Any

from chassis import errors
from chassis.key_types import Bool, Enum, Str, Type
from chassis.keys import Key, Schema
from services.control.keys import ServerKey

UINT32 = 2**32


def _uint32(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f'Invalid value for uint32 "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) >= UINT32:
        raise ValueError(f'Invalid value for uint32 "{text}": strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


Count = Type("integer", _uint32, 0)
Choice = Enum("block", "allow")
FEATURES = ("features.images", "features.networks", "features.profiles", "features.storage.volumes")
# A new project has these unless it says otherwise; features.networks stays off, as in LXD.
ON_BY_DEFAULT = ("features.images", "features.profiles", "features.storage.volumes")
# Limits on the number of instances: which type each counts, None for all. The instances service keeps to them.
NUMBERS: dict[str, str | None] = {
    "limits.containers": "container", "limits.instances": None, "limits.virtual-machines": "virtual-machine",
}  # fmt: skip
LIMITS = "such limits of a project are not supported yet"
RESTRICTIONS = "restrictions of projects are not supported yet"


def _waiting(reason: str, type_: Type[Any], *names: str) -> list[ServerKey[Any]]:
    return [ServerKey(name, type_, waits=reason) for name in names]


PROJECT = Schema(
    "project",
    (
        *(Key(name, Bool, doc="Whether the project has its own, or uses the default project's") for name in FEATURES),
        Key("user.*", Str, doc="Free for the user"),
        *_waiting("backups are not supported yet", Str, "backups.compression_algorithm"),
        *_waiting(
            "images from remote servers are not supported yet", Str,
            "images.auto_update_cached", "images.auto_update_interval", "images.compression_algorithm",
            "images.default_architecture", "images.remote_cache_expiry",
        ),
        *(Key(name, Count, since="projects_limits", doc="How many the project may have") for name in NUMBERS),
        *_waiting(LIMITS, Count, "limits.cpu", "limits.networks", "limits.processes"),
        *_waiting(LIMITS, Str, "limits.disk", "limits.memory"),
        *_waiting(RESTRICTIONS, Bool, "restricted"),
        *_waiting(
            RESTRICTIONS, Choice,
            "restricted.backups", "restricted.cluster.target", "restricted.containers.interception",
            "restricted.containers.lowlevel", "restricted.containers.nesting", "restricted.devices.gpu",
            "restricted.devices.infiniband", "restricted.devices.pci", "restricted.devices.proxy",
            "restricted.devices.unix-block", "restricted.devices.unix-char", "restricted.devices.unix-hotplug",
            "restricted.devices.usb", "restricted.snapshots", "restricted.virtual-machines.lowlevel",
        ),
        *_waiting(
            RESTRICTIONS, Str,
            "restricted.cluster.groups", "restricted.containers.privilege", "restricted.devices.disk",
            "restricted.devices.disk.paths", "restricted.devices.nic", "restricted.idmap.gid", "restricted.idmap.uid",
            "restricted.networks.access", "restricted.networks.subnets", "restricted.networks.uplinks",
            "restricted.networks.zones",
        ),
    ),
    unknown="Invalid project configuration key {key}",
    invalid="Invalid project configuration key {key} value: {reason}",
)  # fmt: skip


def validate(config: dict[str, str]) -> None:
    """Raises BadRequest for the first wrong key."""
    PROJECT.validate(config)
    for name, text in sorted(config.items()):
        key = PROJECT.find(name)
        if text and isinstance(key, ServerKey) and key.waits:
            raise errors.BadRequest(f'Invalid project configuration key "{name}" value: {key.waits}')
