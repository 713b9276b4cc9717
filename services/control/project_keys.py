"""The configuration keys of a project. What nothing enforces yet is declared with that reason and refused."""

from __future__ import annotations

from typing import Any

from chassis import errors
from chassis.key_types import AbsolutePath, Bool, Enum, List, Size, Str, Type, is_true
from chassis.keys import Key, Schema
from rows import limits, restrictions
from services.control.keys import Compressor, ServerKey

UINT32 = 2**32


def _uint32(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f'Invalid value for uint32 "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) >= UINT32:
        raise ValueError(f'Invalid value for uint32 "{text}": strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _id_range(text: str) -> str:
    """ "1000" or "1000-1010", of the uint32 that ids are."""
    for number in text.split("-", 1):
        if not number.isdecimal() or int(number) >= UINT32:
            raise ValueError(f'Invalid number "{text}"')
    return text


IdRange = Type("range of ids", _id_range, "")
Count = Type("integer", _uint32, 0)
Choice = Enum("block", "allow")
FEATURES = ("features.images", "features.networks", "features.profiles", "features.storage.volumes")
# A new project has these unless it says otherwise; features.networks stays off, as in LXD.
ON_BY_DEFAULT = ("features.images", "features.profiles", "features.storage.volumes")
SUMS: tuple[tuple[str, Type[Any]], ...] = ((limits.CPU, Count), (limits.MEMORY, Size), (limits.PROCESSES, Count))
Managed = Enum("block", "allow", "managed")
RESTRICTED: dict[str, Type[Any]] = {
    "restricted.backups": Choice,
    "restricted.containers.interception": Enum("allow", "block", "full"),
    "restricted.containers.lowlevel": Choice,
    "restricted.containers.nesting": Choice,
    "restricted.containers.privilege": Enum("allow", "unprivileged", "isolated"),
    **{f"restricted.devices.{type_}": Choice for type_ in restrictions.DEVICES},
    "restricted.devices.disk": Managed,
    "restricted.devices.nic": Managed,
    "restricted.idmap.gid": List(IdRange),
    "restricted.idmap.uid": List(IdRange),
    "restricted.snapshots": Choice,
    "restricted.virtual-machines.lowlevel": Choice,
}


def _waiting(reason: str, type_: Type[Any], *names: str) -> list[ServerKey[Any]]:
    return [ServerKey(name, type_, waits=reason) for name in names]


PROJECT = Schema(
    "project",
    (
        *(Key(name, Bool, doc="Whether the project has its own, or uses the default project's") for name in FEATURES),
        Key("user.*", Str, doc="Free for the user"),
        Key("backups.compression_algorithm", Compressor, since="projects_compression", doc="Of backups that do not ask for one"),
        Key("images.compression_algorithm", Compressor, since="projects_compression", doc="Of images published from instances"),
        *_waiting(
            "images from remote servers are not supported yet", Str,
            "images.auto_update_cached", "images.auto_update_interval",
            "images.default_architecture", "images.remote_cache_expiry",
        ),
        *(Key(name, Count, since="projects_limits", doc="How many the project may have") for name in limits.NUMBERS),
        *(Key(name, type_, since="projects_limits", doc=f"The most that {name} of its instances may add up to") for name, type_ in SUMS),
        Key(limits.DISK, Size, since="projects_limits_disk",
            doc="The most that the sizes of its instances and custom volumes may add up to; an image may have what is left"),
        Key("limits.networks", Count, since="projects_networks", doc="How many networks of its own it may have"),
        Key("restricted", Bool, since="projects_restrictions", doc="Whether what follows is forbidden unless allowed"),
        *(Key(name, type_, since="projects_restrictions", doc="See rows/restrictions.py") for name, type_ in RESTRICTED.items()),
        Key("restricted.devices.disk.paths", List(AbsolutePath), since="projects_restrictions",
            doc="Where disks of restricted.devices.disk=allow may come from on the host, by commas; from anywhere if unset"),
        *_waiting("clustering is not supported yet", Str, "restricted.cluster.groups"),
        *_waiting("clustering is not supported yet", Choice, "restricted.cluster.target"),
        Key("restricted.networks.access", Str, since="projects_restrictions", doc="The networks it may use, by commas; all if unset"),
        *_waiting("OVN networks are not supported yet", Str, "restricted.networks.subnets", "restricted.networks.uplinks",
                  "restricted.networks.zones"),
    ),
    unknown="Invalid project configuration key {key}",
    invalid="Invalid project configuration key {key} value: {reason}",
)  # fmt: skip


def limit(config: dict[str, str], name: str) -> int:
    """A limit as a number (of things, or bytes); -1 where there is none."""
    key = PROJECT.find(name)
    return int(key.type.parse(config[name])) if key and config.get(name) else -1


def validate(config: dict[str, str]) -> None:
    """Raises BadRequest for the first wrong key."""
    PROJECT.validate(config)
    for name, text in sorted(config.items()):
        key = PROJECT.find(name)
        if text and isinstance(key, ServerKey) and key.waits:
            raise errors.BadRequest(f'Invalid project configuration key "{name}" value: {key.waits}')
    if restrictions.restricts(config) and not is_true(config.get("features.profiles", "")):
        raise errors.BadRequest("Projects without their own profiles cannot be restricted")
