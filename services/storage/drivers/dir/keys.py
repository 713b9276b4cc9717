"""Keys of dir pools: only the common ones."""

from __future__ import annotations

from services.storage.drivers.keys import pool_schema, volume_schema

POOL = pool_schema("dir")
VOLUME = volume_schema("dir")
