"""Type disk: the root disk, and directories or files of the host.

The root disk is a volume of the storage service and is mounted by the start itself; here its keys and its size are minded.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chassis.errors import BadRequest
from chassis.key_types import AbsolutePath, Bool, Enum, NotYet, Size, Str
from chassis.keys import Config, Key, Schema
from rows import restrictions
from services.instances.devices.device import Attached, Inert, Owner, Texts
from services.instances.expansion import is_root_disk
from services.instances.host import spec
from services.instances.host.spec import MountSpec
from services.instances.keys.texts import Priority
from services.instances.neighbours import VolumeId

if TYPE_CHECKING:
    from services.instances.parts import Parts

PROPAGATION = ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")
TYPE = Key("type", Str, doc="disk")
PATH = Key("path", AbsolutePath, doc="Where it is mounted inside")
SOURCE = Key("source", Str, doc="Directory or file of the host")
POOL = Key("pool", Str, since="storage", doc="Storage pool of the volume")
SIZE = Key("size", Size, since="storage", doc="Size of the root disk")
READONLY = Key("readonly", Bool, doc="Whether it may be written to")
OPTIONAL = Key("optional", Bool, doc="Start without it when the source is missing")
RECURSIVE = Key("recursive", Bool, doc="With what is mounted below the source")
PROPAGATE = Key("propagation", Enum(*PROPAGATION), since="container_mount_propagation", doc="How mounts below spread")
SHIFT = Key("shift", Bool, since="container_disk_shift", doc="Show the ids of the host's files as the instance's")
SCHEMA = Schema(
    "disk",
    (
        TYPE, PATH, SOURCE, POOL, SIZE, READONLY, OPTIONAL, RECURSIVE, PROPAGATE, SHIFT,
        Key("size.state", NotYet(Size), since="virtual_machines", doc="Size of the volume for a virtual machine's state"),
        Key("boot.priority", NotYet(Priority), doc="Boot order of a virtual machine"),
        Key("raw.mount.options", NotYet(Str), since="container_raw_mount", doc="Options of the mount"),
        *(Key(f"limits.{name}", NotYet(Str), doc="I/O limit") for name in ("read", "write", "max")),
        Key("ceph.cluster_name", NotYet(Str), doc="Name of the Ceph cluster"),
        Key("ceph.user_name", NotYet(Str), doc="User of the Ceph cluster"),
    ),
    unknown="Invalid device option {key}",
    invalid="Invalid value for device option {key}: {reason} (value {value})",
    fault=BadRequest,
)  # fmt: skip


class Disk(Inert):
    name = "disk"

    def check(self, device: str, config: Texts) -> None:
        SCHEMA.validate(config)
        if not config.get("path") or (config["path"] != "/" and not config.get("source")):
            raise ValueError('Disk entry is missing the required "source" or "path" property')
        if config.get("path") == "/" and config.get("source"):
            raise ValueError('Root disk entry may not have a "source" property set')
        if is_root_disk(config):
            if not config.get("pool"):
                raise ValueError('Root disk entry must have a "pool" property set')
            return
        if config.get("size"):
            raise ValueError("Only the root disk may have a size quota")
        if not config.get("pool") and not config["source"].startswith("/"):
            raise ValueError(f'Source path "{config["source"]}" of disk "{device}" must be absolute')

    async def validate(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        pool = config.get("pool")
        if pool and parts.roster.pool(pool) is None:
            raise ValueError("Failed loading storage pool: Storage pool not found" if is_root_disk(config) else
                             f'The "{pool}" storage pool doesn\'t exist')  # fmt: skip
        if is_root_disk(config) or pool:
            return
        if not Config(config)[OPTIONAL] and not Path(config["source"]).exists():
            raise ValueError(f'Missing source path "{config["source"]}" for disk "{device}"')

    async def attach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached:
        if is_root_disk(config):
            return Attached()
        source, shift = await _source(parts, config, owner)
        if not source.exists():
            if Config(config)[OPTIONAL]:
                return Attached()
            raise ValueError(f'Missing source path "{source}" for disk "{device}"')
        beneath = "" if config.get("pool") else _parent(parts, config["source"], owner)
        return Attached(mount=replace(_mount(source, config, shift), beneath=beneath))

    async def detach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        if not is_root_disk(config) and config.get("pool"):
            await parts.volumes.unmount(_custom(config, owner))

    async def plug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached:
        attached = await self.attach(parts, device, config, owner)
        if attached.mount is not None:
            await parts.host.attach_mount(spec.Key(owner.project, owner.instance), attached.mount)
        return attached

    async def unplug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        if not is_root_disk(config):
            await parts.host.detach_mount(spec.Key(owner.project, owner.instance), config["path"].lstrip("/"))
            await self.detach(parts, device, config, owner)

    async def change(
        self, parts: Parts, device: str, old: Texts, new: Texts, owner: Owner, running: bool
    ) -> dict[str, str]:
        if is_root_disk(old) and is_root_disk(new):
            if old.get("pool") != new.get("pool"):
                raise ValueError(f'Cannot update root disk device pool name to "{new.get("pool")}"')
            if old.get("size", "") != new.get("size", ""):
                volume = VolumeId(new["pool"], owner.project, owner.type, owner.instance)
                await parts.volumes.set_quota(volume, new.get("size", ""))
            return {}
        if running:
            await self.unplug(parts, device, old, owner)
            await self.plug(parts, device, new, owner)
        return {}


def _custom(config: Texts, owner: Owner) -> VolumeId:
    return VolumeId(config["pool"], owner.project, "custom", config["source"])


async def _source(parts: Parts, config: Texts, owner: Owner) -> tuple[Path, bool]:
    """The directory or file of the host, and whether its owners are shown shifted.

    Owners in a custom volume lie unshifted on the disk, so that any id map may use it.
    """
    if config.get("pool"):
        return await parts.volumes.mount_custom(_custom(config, owner))
    return Path(config["source"]), Config(config)[SHIFT]


def _parent(parts: Parts, source: str, owner: Owner) -> str:
    """The folder that its project holds a source to; empty if it may be anywhere."""
    found = restrictions.allowed_parent(parts.roster.projects.config(owner.project), source)
    if found is None:
        raise ValueError(f'Disk source path "{source}" not allowed')
    return found


def _mount(source: Path, config: Texts, shift: bool) -> MountSpec:
    keys = Config(config)
    options = ["rbind" if keys[RECURSIVE] else "bind"]
    if keys[READONLY]:
        options.append("ro")
    if keys[PROPAGATE]:
        options.append(keys[PROPAGATE])
    kind: Literal["dir", "file"] = "dir" if stat.S_ISDIR(source.stat().st_mode) else "file"
    return MountSpec(str(source), config["path"].lstrip("/"), tuple(options), kind, shift=shift)
