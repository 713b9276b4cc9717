"""Where pools, volumes and snapshots are found over REST."""

from __future__ import annotations

from urllib.parse import quote

from chassis.references import in_project


def volume_url(pool: str, type_: str, name: str, project: str) -> str:
    return in_project(f"/1.0/storage-pools/{quote(pool)}/volumes/{type_}/{quote(name)}", project)


def snapshot_url(pool: str, type_: str, volume: str, name: str, project: str) -> str:
    path = f"/1.0/storage-pools/{quote(pool)}/volumes/{type_}/{quote(volume)}/snapshots/{quote(name)}"
    return in_project(path, project)


def backup_url(pool: str, volume: str, name: str, project: str) -> str:
    path = f"/1.0/storage-pools/{quote(pool)}/volumes/custom/{quote(volume)}/backups/{quote(name)}"
    return in_project(path, project)
