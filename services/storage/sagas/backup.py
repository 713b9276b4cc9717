"""Backups of custom volumes: make, rename, delete, and a volume out of an archive."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from chassis import compression, durable
from chassis.events import Event, lifecycle
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.storage import VOLUME, VOLUME_BACKUP, VOLUME_SNAPSHOT, Volume, VolumeBackup, VolumeSnapshot
from services.storage import backup_archive
from services.storage.content import resize_content
from services.storage.custom import CREATION, size_of
from services.storage.documents import snapshot_document, volume_document
from services.storage.drivers import VolumeName
from services.storage.drivers.driver import Fill
from services.storage.parts import Parts
from services.storage.urls import backup_url, volume_url


def _parts(ctx: Context) -> Parts:
    parts: Parts = ctx.parts
    return parts


def _volume(ctx: Context) -> VolumeName:
    return VolumeName("custom", ctx.args["project"], ctx.args["volume"])


def _key(ctx: Context) -> tuple[str, str, str, str]:
    return ctx.args["pool"], ctx.args["project"], "custom", ctx.args["volume"]


def _event(ctx: Context, action: str, name: str, context: dict[str, Any] | None = None) -> Event:
    pool, project, _, volume = _key(ctx)
    source = backup_url(pool, volume, name, project)
    return lifecycle(action, source, project=project, context=context, requestor=ctx.operation.requestor)


# Make.


def _snapshots(ctx: Context) -> list[VolumeSnapshot]:
    """Those that go into the archive, the oldest first."""
    if ctx.args["volume_only"]:
        return []
    found = (row.value for row in _parts(ctx).places.snapshots.select(*_key(ctx)))
    return sorted(found, key=lambda row: row.created_at)


def _index(volume: Volume, snapshots: list[VolumeSnapshot], backend: str) -> dict[str, Any]:
    head: dict[str, Any] = {"name": volume.name, "backend": backend, "pool": volume.pool}
    if snapshots:
        head["snapshots"] = [row.name for row in snapshots]
    config: dict[str, Any] = {"volume": volume_document(volume, [])}
    if snapshots:
        config["volume_snapshots"] = [snapshot_document(row, row.name) for row in snapshots]
    return {**head, "optimized": False, "optimized_header": False, "type": "custom", "config": config}


async def _make(ctx: Context) -> None:
    parts, volume, pool = _parts(ctx), _volume(ctx), ctx.args["pool"]
    target = parts.backups.path(pool, volume, ctx.args["name"])
    if target.exists():
        return
    driver, row = parts.places.driver(pool), parts.places.volumes.one(*_key(ctx)).value
    snapshots = _snapshots(ctx)
    work = parts.backups.work(pool, volume, ctx.args["name"])
    await asyncio.to_thread(backup_archive.begin, work, _index(row, snapshots, driver.name))
    for snapshot in snapshots:
        path = await driver.mount(volume.at(snapshot.name))
        await backup_archive.append(work, path, f"backup/volume-snapshots/{snapshot.name}", row.content_type)
    await backup_archive.append(work, await driver.mount(volume), "backup/volume", row.content_type)
    algorithm = tuple(ctx.args["algorithm"])
    if algorithm[0] != "none":
        packed = work.with_name(work.name + ".packed")
        await compression.compress(parts.backups.read(work), algorithm, packed)
        os.replace(packed, work)
    await asyncio.to_thread(durable.sync_file, work)
    await asyncio.to_thread(durable.rename, work, target)


async def _drop(ctx: Context) -> None:
    parts = _parts(ctx)
    work = parts.backups.work(ctx.args["pool"], _volume(ctx), ctx.args["name"])
    work.with_name(work.name + ".packed").unlink(missing_ok=True)
    parts.backups.forget(ctx.args["pool"], _volume(ctx), ctx.args["name"])


def _made(ctx: Context, change: Change) -> None:
    expires = ctx.args["expires_at"]
    row = VolumeBackup(
        pool=ctx.args["pool"],
        project=ctx.args["project"],
        volume=ctx.args["volume"],
        name=ctx.args["name"],
        created_at=datetime.now(UTC),
        expires_at=datetime.fromisoformat(expires) if expires else None,
        volume_only=ctx.args["volume_only"],
    )
    change.put(VOLUME_BACKUP, row, expect=0)
    change.event(_event(ctx, "storage-volume-backup-created", row.name, {"type": "custom"}))


CREATE = Saga(
    "storage-volume-backup.create",
    steps=(Step("archive", _make, _drop, interruptible=True),),
    description="Creating custom volume backup",
    finish=_made,
)


# Rename and delete.


async def _rename(ctx: Context) -> None:
    await _give_name(ctx, ctx.args["name"], ctx.args["new_name"])


async def _rename_back(ctx: Context) -> None:
    await _give_name(ctx, ctx.args["new_name"], ctx.args["name"])


async def _give_name(ctx: Context, old: str, new: str) -> None:
    await asyncio.to_thread(_parts(ctx).backups.rename, ctx.args["pool"], _volume(ctx), old, new)


def _renamed(ctx: Context, change: Change) -> None:
    pool, project, _, volume = _key(ctx)
    row = _parts(ctx).backup_rows.get(pool, project, volume, ctx.args["name"])
    if row is None:
        return
    change.delete(VOLUME_BACKUP, row.key, expect=row.revision)
    change.put(VOLUME_BACKUP, msgspec.structs.replace(row.value, name=ctx.args["new_name"]), expect=0)
    context = {"old_name": f"{volume}/{ctx.args['name']}"}
    change.event(_event(ctx, "storage-volume-backup-renamed", ctx.args["new_name"], context))


RENAME = Saga(
    "storage-volume-backup.rename",
    steps=(Step("rename", _rename, _rename_back),),
    description="Renaming custom volume backup",
    finish=_renamed,
)


async def _remove(ctx: Context) -> None:
    _parts(ctx).backups.forget(ctx.args["pool"], _volume(ctx), ctx.args["name"])


def _deleted(ctx: Context, change: Change) -> None:
    pool, project, _, volume = _key(ctx)
    change.delete(VOLUME_BACKUP, (pool, project, volume, ctx.args["name"]), expect=None)
    change.event(_event(ctx, "storage-volume-backup-deleted", ctx.args["name"]))


DELETE = Saga(
    "storage-volume-backup.delete",
    steps=(Step("remove", _remove),),
    description="Deleting custom volume backup",
    finish=_deleted,
)


# A volume out of an archive.


def _upload(ctx: Context) -> Path:
    found: Path = _parts(ctx).backups.arriving / ctx.args["token"]
    return found


def _unpacked(ctx: Context, place: str) -> Fill:
    async def fill(work: Path) -> None:
        await backup_archive.unpack(_upload(ctx), place, work, ctx.args["content_type"])

    return fill


async def _restore(ctx: Context) -> None:
    driver, volume = _parts(ctx).places.driver(ctx.args["pool"]), _volume(ctx)
    for snapshot in ctx.args["snapshots"]:
        at = volume.at(snapshot["name"])
        if not await driver.exists(at):
            await driver.make(at, _unpacked(ctx, f"backup/volume-snapshots/{snapshot['name']}"))
    if not await driver.exists(volume):
        await driver.make(volume, _unpacked(ctx, "backup/volume"))
    await resize_content(driver, volume, ctx.args["content_type"], size_of(ctx.args["config"]))


async def _remove_restored(ctx: Context) -> None:
    await _parts(ctx).places.driver(ctx.args["pool"]).remove(_volume(ctx))


async def _keep_upload(ctx: Context) -> None:
    """Only for its undo."""


async def _drop_upload(ctx: Context) -> None:
    _upload(ctx).unlink(missing_ok=True)


def _restored(ctx: Context, change: Change) -> None:
    pool, project, type_, name = _key(ctx)
    now = datetime.now(UTC)
    row = Volume(
        pool=pool,
        project=project,
        type=type_,
        name=name,
        content_type=ctx.args["content_type"],
        description=ctx.args["description"],
        config=ctx.args["config"],
        created_at=now,
        member=_parts(ctx).member,
    )
    volumes = {(pool, name): row.config}
    _parts(ctx).room.take(change, project, CREATION, volumes=volumes)
    change.put(VOLUME, row, expect=0)
    for number, snapshot in enumerate(ctx.args["snapshots"]):
        expires = snapshot["expires_at"]
        kept = VolumeSnapshot(
            pool=pool,
            project=project,
            type=type_,
            volume=name,
            name=snapshot["name"],
            content_type=row.content_type,
            description=snapshot["description"],
            config=snapshot["config"],
            created_at=now.replace(microsecond=min(number, 999_999)),
            expires_at=datetime.fromisoformat(expires) if expires else None,
        )
        change.put(VOLUME_SNAPSHOT, kept, expect=0)
    source = volume_url(pool, "custom", name, project)
    context = {"type": "custom"}
    change.event(
        lifecycle("storage-volume-created", source, project=project, context=context, requestor=ctx.operation.requestor)
    )


RESTORE = Saga(
    "storage-volume-backup.restore",
    steps=(
        Step("upload", _keep_upload, _drop_upload, light=True),
        Step("unpack", _restore, _remove_restored),
        Step("drop", _drop_upload),
    ),
    description="Restoring custom volume backup",
    finish=_restored,
)

SAGAS = (CREATE, RENAME, DELETE, RESTORE)
