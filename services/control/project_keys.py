"""The configuration keys of a project. What nothing enforces yet is declared with that reason and refused."""

from __future__ import annotations

from typing import Any

from chassis import errors
from chassis.key_types import AbsolutePath, Bool, Enum, List, Str, Type, is_true
from chassis.keys import Key, Schema
from rows import restrictions
from services.control.keys import ServerKey

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
# Limits on the number of instances: which type each counts, None for all. The instances service keeps to them.
NUMBERS: dict[str, str | None] = {
    "limits.containers": "container", "limits.instances": None, "limits.virtual-machines": "virtual-machine",
}  # fmt: skip
LIMITS = "such limits of a project are not supported yet"
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
        *_waiting("backups are not supported yet", Str, "backups.compression_algorithm"),
        *_waiting(
            "images from remote servers are not supported yet", Str,
            "images.auto_update_cached", "images.auto_update_interval", "images.compression_algorithm",
            "images.default_architecture", "images.remote_cache_expiry",
        ),
        *(Key(name, Count, since="projects_limits", doc="How many the project may have") for name in NUMBERS),
        *_waiting(LIMITS, Count, "limits.cpu", "limits.networks", "limits.processes"),
        *_waiting(LIMITS, Str, "limits.disk", "limits.memory"),
        Key("restricted", Bool, since="projects_restrictions", doc="Whether what follows is forbidden unless allowed"),
        *(Key(name, type_, since="projects_restrictions", doc="See rows/restrictions.py") for name, type_ in RESTRICTED.items()),
        *_waiting("paths of the host cannot be allowed one by one yet", List(AbsolutePath), "restricted.devices.disk.paths"),
        *_waiting("clustering is not supported yet", Str, "restricted.cluster.groups"),
        *_waiting("clustering is not supported yet", Choice, "restricted.cluster.target"),
        *_waiting("restrictions on networks are not supported yet", Str, "restricted.networks.access",
                  "restricted.networks.subnets", "restricted.networks.uplinks", "restricted.networks.zones"),
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
    if restrictions.restricts(config) and not is_true(config.get("features.profiles", "")):
        raise errors.BadRequest("Projects without their own profiles cannot be restricted")
