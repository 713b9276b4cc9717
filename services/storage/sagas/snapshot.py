"""Snapshots of custom volumes: make, rename, delete, restore. Args: pool, project, volume, and the names."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from chassis.events import Event, lifecycle
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.storage import VOLUME_SNAPSHOT
from services.storage.custom import snapshot_row
from services.storage.drivers import Driver, VolumeName
from services.storage.parts import Parts
from services.storage.urls import snapshot_url, volume_url


def _driver(ctx: Context) -> Driver:
    parts: Parts = ctx.parts
    return parts.places.driver(ctx.args["pool"])


def _volume(ctx: Context) -> VolumeName:
    return VolumeName("custom", ctx.args["project"], ctx.args["volume"])


def _key(ctx: Context) -> tuple[str, str, str, str]:
    return ctx.args["pool"], ctx.args["project"], "custom", ctx.args["volume"]


def _event(ctx: Context, action: str, name: str, context: dict[str, Any] | None = None) -> Event:
    pool, project, type_, volume = _key(ctx)
    source = snapshot_url(pool, type_, volume, name, project) if name else volume_url(pool, type_, volume, project)
    return lifecycle(action, source, project=project, context=context, requestor=ctx.operation.requestor)


async def _make(ctx: Context) -> None:
    driver, volume = _driver(ctx), _volume(ctx)
    if not await driver.exists(volume.at(ctx.args["name"])):
        await driver.copy(volume, volume.at(ctx.args["name"]))


async def _remove(ctx: Context) -> None:
    await _driver(ctx).remove(_volume(ctx).at(ctx.args["name"]))


def _made(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    volume = parts.places.volumes.one(*_key(ctx)).value
    expires = ctx.args["expires_at"]
    moment = datetime.fromisoformat(expires) if expires else None
    change.put(VOLUME_SNAPSHOT, snapshot_row(volume, ctx.args["name"], ctx.args["description"], moment), expect=0)
    change.event(_event(ctx, "storage-volume-snapshot-created", ctx.args["name"], {"type": "custom"}))


CREATE = Saga(
    "storage-volume-snapshot.create",
    steps=(Step("snapshot", _make, _remove),),
    description="Creating storage volume snapshot",
    finish=_made,
)


async def _rename(ctx: Context) -> None:
    volume = _volume(ctx)
    await _driver(ctx).rename(volume.at(ctx.args["name"]), volume.at(ctx.args["new_name"]))


async def _rename_back(ctx: Context) -> None:
    driver, volume = _driver(ctx), _volume(ctx)
    if not await driver.exists(volume.at(ctx.args["name"])):
        await driver.rename(volume.at(ctx.args["new_name"]), volume.at(ctx.args["name"]))


def _renamed(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    row = parts.places.snapshots.get(*_key(ctx), ctx.args["name"])
    if row is None:
        return
    change.delete(VOLUME_SNAPSHOT, row.key, expect=row.revision)
    change.put(VOLUME_SNAPSHOT, msgspec.structs.replace(row.value, name=ctx.args["new_name"]), expect=0)
    context = {"old_name": ctx.args["name"]}
    change.event(_event(ctx, "storage-volume-snapshot-renamed", ctx.args["new_name"], context))


RENAME = Saga(
    "storage-volume-snapshot.rename",
    steps=(Step("rename", _rename, _rename_back),),
    description="Renaming storage volume snapshot",
    finish=_renamed,
)


def _deleted(ctx: Context, change: Change) -> None:
    change.delete(VOLUME_SNAPSHOT, (*_key(ctx), ctx.args["name"]), expect=None)
    change.event(_event(ctx, "storage-volume-snapshot-deleted", ctx.args["name"]))


DELETE = Saga(
    "storage-volume-snapshot.delete",
    steps=(Step("remove", _remove),),
    description="Deleting storage volume snapshot",
    finish=_deleted,
)


async def _restore(ctx: Context) -> None:
    await _driver(ctx).restore(_volume(ctx), ctx.args["name"])


def _restored(ctx: Context, change: Change) -> None:
    change.event(_event(ctx, "storage-volume-restored", "", {"snapshot": ctx.args["name"]}))


RESTORE = Saga(
    "storage-volume.restore",
    steps=(Step("restore", _restore),),
    description="Restoring storage volume",
    finish=_restored,
)

SAGAS = (CREATE, RENAME, DELETE, RESTORE)
