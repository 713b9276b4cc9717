"""Configuration keys that pools and volumes of every driver have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chassis.errors import Internal
from chassis.key_types import Bool, Enum, Expiry, NotYet, Size, Str
from chassis.keys import Config, Key, Schema
from services.storage.drivers.cron import VOLUME_CRON

SOURCE = Key(
    "source", Str, since="storage", scope="local", doc="Block device, folder or existing volume group, data set or pool"
)
INITIAL_SOURCE = Key(
    "volatile.initial_source",
    Str,
    since="storage_volatile_initial_source",
    scope="local",
    doc="What `source` was when the pool was made",
)
BWLIMIT = Key(
    "rsync.bwlimit",
    Size,
    since="storage_rsync_bwlimit",
    doc="Bytes a second that a copy with rsync may take, 0 = no limit",
)
COMPRESSION = Key(
    "rsync.compression",
    NotYet(Bool, "true", "1", "yes", "on"),
    default="true",
    since="storage_rsync_compression",
    doc="Whether rsync compresses between machines (volumes go to no other machine yet: only true is taken)",
)
USER = Key("user.*", Str, doc="Free for users")

SIZE = Key(
    "size",
    Size,
    since="storage",
    doc="Limit of the volume. A dir pool keeps it and cannot enforce it, as LXD where the file system has no project quotas",
)
SECURITY_SHIFTED = Key(
    "security.shifted", Bool, since="storage_shifted", doc="Owners stay unshifted, several id maps may use it"
)
SECURITY_UNMAPPED = Key("security.unmapped", Bool, since="storage_unmapped", doc="Owners are not mapped at all")
SNAPSHOTS_EXPIRY = Key(
    "snapshots.expiry", Expiry, since="custom_volume_snapshot_expiry", doc="When new snapshots end, e.g. 1d 2w"
)
SNAPSHOTS_PATTERN = Key(
    "snapshots.pattern", Str, default="snap%d", since="volume_snapshot_scheduling", doc="Names of snapshots"
)
SNAPSHOTS_SCHEDULE = Key(
    "snapshots.schedule", VOLUME_CRON, since="volume_snapshot_scheduling", doc="When snapshots are made by themselves"
)
CONTENT_FILESYSTEM = Enum("filesystem", "block")

VOLUME_KEYS: tuple[Key[Any], ...] = (
    SIZE,
    SECURITY_SHIFTED,
    SECURITY_UNMAPPED,
    SNAPSHOTS_EXPIRY,
    SNAPSHOTS_PATTERN,
    SNAPSHOTS_SCHEDULE,
)
_VOLATILE = (
    Key("volatile.idmap.last", Str, doc="Id map that the owners of the files are shifted by"),
    Key("volatile.idmap.next", Str, doc="Id map that they will be shifted by"),
    Key("volatile.rootfs.size", Str, doc="Size of the root file system when the volume was made"),
)


def _exclusive(config: Config) -> None:
    if config[SECURITY_SHIFTED] and config[SECURITY_UNMAPPED]:
        raise ValueError("security.unmapped and security.shifted are mutually exclusive")


def pool_schema(name: str, keys: Iterable[Key[Any]] = ()) -> Schema:
    """The keys of a driver's pools: its own, the common ones, and `volume.*` as defaults of new volumes."""
    defaults = [
        Key(f"volume.{key.name}", key.type, since=key.since, doc=f"Default for new volumes: {key.doc}")
        for key in VOLUME_KEYS
    ]
    common = (SOURCE, INITIAL_SOURCE, BWLIMIT, COMPRESSION, USER)
    return Schema(f"storage pool {name}", [*common, *defaults, *keys], fault=Internal)


def volume_schema(name: str, keys: Iterable[Key[Any]] = ()) -> Schema:
    return Schema(
        f"storage volume {name}", [*VOLUME_KEYS, *_VOLATILE, USER, *keys], fault=Internal, rules=(_exclusive,)
    )


def volume_defaults(pool: dict[str, str]) -> dict[str, str]:
    """The configuration that a new custom volume of a pool begins with."""
    return {name.removeprefix("volume."): text for name, text in pool.items() if name.startswith("volume.") and text}
