"""Keys of btrfs pools."""

from __future__ import annotations

from chassis.key_types import Size, Str
from chassis.keys import Key
from services.storage.drivers.keys import pool_schema, volume_schema

SIZE = Key("size", Size, since="storage", scope="local", doc="Size of the loop file, when the pool stands on one")
MOUNT_OPTIONS = Key(
    "btrfs.mount_options",
    Str,
    default="user_subvol_rm_allowed",
    since="storage_btrfs_mount_options",
    doc="Mount options of the pool, separated by commas",
)
POOL = pool_schema("btrfs", (SIZE, MOUNT_OPTIONS))
VOLUME = volume_schema("btrfs")
