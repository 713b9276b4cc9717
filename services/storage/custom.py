"""Custom volumes: what may be asked for, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from chassis import errors, units
from chassis.key_types import quote
from chassis.keys import Schema
from rows.storage import Pool, Volume, VolumeSnapshot
from services.storage.drivers import VolumeName, driver_named
from services.storage.drivers.keys import volume_defaults

CREATION, UPDATE = "volume creation", "volume update"
BLOCK_SIZE = 10 * 1024**3  # bytes of a block volume without a size, as LXD has it


class VolumeSource(msgspec.Struct):
    type: str = ""
    pool: str = ""
    name: str = ""
    project: str = ""
    volume_only: bool = False
    refresh: bool = False


class VolumesPost(msgspec.Struct):
    name: str = ""
    type: str = ""
    content_type: str = ""
    description: str = ""
    config: dict[str, str] | None = None
    source: VolumeSource | None = None


class VolumePost(msgspec.Struct):
    """Rename or move."""

    name: str = ""
    pool: str = ""
    project: str = ""
    migration: bool = False
    volume_only: bool = False


class VolumePut(msgspec.Struct):
    config: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    restore: str = ""


class SnapshotsPost(msgspec.Struct):
    name: str = ""
    description: str = ""
    expires_at: datetime | None = None


class SnapshotPut(msgspec.Struct):
    description: str | msgspec.UnsetType = msgspec.UNSET
    expires_at: datetime | msgspec.UnsetType | None = msgspec.UNSET


def refuse_name(name: str) -> None:
    """Raises BadRequest, in LXD's words where it has some."""
    if not name:
        raise errors.BadRequest("No name provided")
    if "/" in name:
        raise errors.BadRequest("Storage volume names may not contain slashes")
    if name in (".", "..") or name.startswith("-") or "\0" in name or len(name) > 200:
        raise errors.BadRequest(f"Invalid storage volume name {quote(name[:40])}")


def refuse_snapshot_name(name: str) -> None:
    if not name or "/" in name:
        raise errors.BadRequest("Snapshot names may not contain slashes")
    if name.startswith(".") or "\0" in name or len(name) > 200:
        raise errors.BadRequest(f"Invalid snapshot name {quote(name[:40])}")


def refuse_type(type_: str) -> None:
    if type_ != "custom":
        raise errors.BadRequest(f"Currently not allowed to create storage volumes of type {quote(type_)}")


def content_type_of(text: str) -> str:
    if text not in ("", "filesystem", "block"):
        raise errors.BadRequest("Invalid volume content type name")
    return text or "filesystem"


def validate(pool: Pool, volume: VolumeName, config: dict[str, str]) -> None:
    """Raises Internal in LXD's words."""
    schema = driver_named(pool.driver).volume_keys
    worded = Schema(
        schema.name,
        schema.keys,
        unknown="Invalid option for volume {volume} option {key}",
        invalid="Invalid value for volume {volume} option {key}: {reason}",
        fault=errors.Internal,
        rules=schema.rules,
    )
    worded.validate(config, volume=quote(volume.folder))


def completed(pool: Pool, content_type: str, config: dict[str, str]) -> dict[str, str]:
    """The configuration that a new volume is stored with: the pool's defaults below what was given."""
    given = {**volume_defaults(pool.config), **config}
    found = {key: text for key, text in given.items() if text != ""}
    if content_type == "block" and "size" not in found:
        found["size"] = units.show_bytes_iec(BLOCK_SIZE, 0)
    return found


def size_of(config: dict[str, str]) -> int:
    return units.parse_bytes(config["size"]) if config.get("size") else 0


def next_snapshot_name(names: set[str], pattern: str = "snap%d") -> str:
    """A pattern with %d counts on from the highest number; one without is a name, made unique by a number if it is taken."""
    if "%d" not in pattern:
        if pattern not in names:
            return pattern
        pattern += "-%d"
    before, _, after = pattern.partition("%d")
    taken = [
        int(name[len(before) : len(name) - len(after) or None])
        for name in names
        if name.startswith(before)
        and name.endswith(after)
        and name[len(before) : len(name) - len(after) or None].isdigit()
    ]
    return pattern.replace("%d", str(max(taken, default=-1) + 1))


def expiry_of(config: dict[str, str], moment: datetime | None = None) -> datetime | None:
    """When a snapshot that is made now ends by the volume's own rule."""
    text = config.get("snapshots.expiry", "")
    return units.parse_expiry(moment or datetime.now(UTC), text) if text else None


def snapshot_row(volume: Volume, name: str, description: str, expires: datetime | None) -> VolumeSnapshot:
    return VolumeSnapshot(
        pool=volume.pool,
        project=volume.project,
        type=volume.type,
        volume=volume.name,
        name=name,
        content_type=volume.content_type,
        description=description or volume.description,
        config=volume.config,
        created_at=datetime.now(UTC),
        expires_at=expires,
    )


def snapshot_args(volume: Volume, name: str, description: str, expires: datetime | None) -> dict[str, Any]:
    return {
        "pool": volume.pool,
        "project": volume.project,
        "volume": volume.name,
        "name": name,
        "description": description,
        "expires_at": expires.isoformat() if expires else "",
    }


def name_of(row: Volume) -> VolumeName:
    return VolumeName(row.type, row.project, row.name)


def lock_of(pool: str, volume: VolumeName) -> tuple[str, str, str]:
    return ("storage-volume", volume.project, f"{pool}/{volume.type}/{volume.name}")


def changed_config(config: dict[str, str], body: VolumePut, *, merge: bool) -> dict[str, str]:
    given: dict[str, Any] = body.config if isinstance(body.config, dict) else {}
    return {key: text for key, text in ({**config, **given} if merge else given).items() if text != ""}


def moved(volume: VolumeName, project: str, name: str) -> VolumeName:
    return replace(volume, project=project, name=name)
