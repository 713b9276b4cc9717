"""Storage pools and volumes. Owner: storage."""

from __future__ import annotations

from datetime import datetime

import msgspec

from chassis.store import Kind


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    driver: str
    description: str = ""
    config: dict[str, str] = {}
    status: str = "Created"


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume. `type` is container, virtual-machine, image or custom; `content_type` filesystem or block."""

    pool: str
    project: str
    type: str
    name: str
    content_type: str = "filesystem"
    description: str = ""
    config: dict[str, str] = {}
    created_at: datetime
    member: str = "none"


class VolumeSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    pool: str
    project: str
    type: str
    volume: str
    name: str
    content_type: str = "filesystem"
    description: str = ""
    config: dict[str, str] = {}
    created_at: datetime
    expires_at: datetime | None = None


class VolumeBackup(msgspec.Struct, frozen=True, kw_only=True):
    """An archive of a custom volume; its file lies on the member that holds the volume."""

    pool: str
    project: str
    volume: str
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    volume_only: bool = False
    optimized: bool = False


POOL = Kind("storage_pool", Pool, ("name",))
VOLUME = Kind("storage_volume", Volume, ("pool", "project", "type", "name"))
VOLUME_SNAPSHOT = Kind("storage_snapshot", VolumeSnapshot, ("pool", "project", "type", "volume", "name"))
VOLUME_BACKUP = Kind("storage_backup", VolumeBackup, ("pool", "project", "volume", "name"))
