"""Volumes and snapshots as LXD shows them."""

from __future__ import annotations

from typing import Any

from chassis.documents import timestamp
from rows.storage import Volume, VolumeSnapshot


def volume_document(row: Volume, used_by: list[str]) -> dict[str, Any]:
    return {
        "config": dict(sorted(row.config.items())),
        "description": row.description,
        "name": row.name,
        "type": row.type,
        "used_by": used_by,
        "location": row.member,
        "content_type": row.content_type,
        "project": row.project,
        "created_at": timestamp(row.created_at),
    }


def snapshot_document(row: VolumeSnapshot, name: str) -> dict[str, Any]:
    """`name` is "snap" or, in lists, "volume/snap"."""
    return {
        "description": row.description,
        "expires_at": timestamp(row.expires_at),
        "name": name,
        "config": dict(sorted(row.config.items())),
        "content_type": row.content_type,
        "created_at": timestamp(row.created_at),
    }
