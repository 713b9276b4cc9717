"""Custom volumes: make, copy, move, rename, delete.

Args name volumes as {pool, project, name}; all are of type custom. A volume's own name is taken only when it is whole, so a step that
finds the name taken finds what it has made itself: the operation holds the lock of that name, and it was free when it was accepted.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from chassis import durable, errors
from chassis.events import Event, lifecycle
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.storage import VOLUME, VOLUME_BACKUP, VOLUME_SNAPSHOT, Volume, VolumeSnapshot
from services.storage.content import make_content, resize_content
from services.storage.custom import CREATION, size_of
from services.storage.drivers import Driver, VolumeName, host
from services.storage.parts import Parts
from services.storage.placing import copying
from services.storage.urls import snapshot_url, volume_url

log = structlog.get_logger(__name__)
Spot = dict[str, str]
SWITCHES = 5  # attempts to move the rows of a volume that somebody changes at the same time


def spot(pool: str, volume: VolumeName) -> Spot:
    return {"pool": pool, "project": volume.project, "name": volume.name}


def _volume(at: Spot) -> VolumeName:
    return VolumeName("custom", at["project"], at["name"])


def _key(at: Spot) -> tuple[str, str, str, str]:
    return at["pool"], at["project"], "custom", at["name"]


def _driver(ctx: Context, at: Spot) -> Driver:
    parts: Parts = ctx.parts
    return parts.places.driver(at["pool"])


def _event(ctx: Context, action: str, at: Spot, context: dict[str, Any] | None = None) -> Event:
    return _told(ctx, action, at, volume_url(at["pool"], "custom", at["name"], at["project"]), context)


def _told(ctx: Context, action: str, at: Spot, source: str, context: dict[str, Any] | None = None) -> Event:
    return lifecycle(action, source, project=at["project"], context=context, requestor=ctx.operation.requestor)


async def _remove_target(ctx: Context) -> None:
    await _driver(ctx, ctx.args["target"]).remove(_volume(ctx.args["target"]))


# Make.


async def _make(ctx: Context) -> None:
    target, config = ctx.args["target"], ctx.args["config"]
    driver, volume = _driver(ctx, target), _volume(target)
    if not await driver.exists(volume):
        await driver.make(volume, make_content(ctx.args["content_type"], size_of(config)))
    await resize_content(driver, volume, ctx.args["content_type"], size_of(config))


def _row(ctx: Context, content_type: str) -> Volume:
    target = ctx.args["target"]
    return Volume(
        pool=target["pool"],
        project=target["project"],
        type="custom",
        name=target["name"],
        content_type=content_type,
        description=ctx.args["description"],
        config=ctx.args["config"],
        created_at=datetime.now(UTC),
        member=ctx.parts.member,
    )


def _take_room(ctx: Context, change: Change, config: dict[str, str]) -> None:
    parts: Parts = ctx.parts
    target = ctx.args["target"]
    parts.room.take(change, target["project"], CREATION, volumes={(target["pool"], target["name"]): config})


def _made(ctx: Context, change: Change) -> None:
    _take_room(ctx, change, ctx.args["config"])
    change.put(VOLUME, _row(ctx, ctx.args["content_type"]), expect=0)
    change.event(_event(ctx, "storage-volume-created", ctx.args["target"], {"type": "custom"}))


CREATE = Saga(
    "storage-volume.create",
    steps=(Step("make", _make, _remove_target),),
    description="Creating storage volume",
    finish=_made,
)


# Copy.


async def _copy_one(ctx: Context, source: VolumeName, target: VolumeName) -> None:
    """A volume or a snapshot; nothing happens if it is there."""
    there, here = _driver(ctx, ctx.args["source"]), _driver(ctx, ctx.args["target"])
    if await here.exists(target):
        return
    if there.place.name == here.place.name:
        await here.copy(source, target)
    else:
        await here.make(target, copying(await there.mount(source)))


def _source(ctx: Context) -> VolumeName:
    source = ctx.args["source"]
    return VolumeName.of("custom", source["project"], source["name"])


async def _copy_snapshots(ctx: Context) -> None:
    source, target = _source(ctx), _volume(ctx.args["target"])
    for name in ctx.args["snapshots"]:
        await _copy_one(ctx, source.at(name), target.at(name))


async def _copy(ctx: Context) -> None:
    target = _volume(ctx.args["target"])
    await _copy_one(ctx, _source(ctx), target)
    here = _driver(ctx, ctx.args["target"])
    await resize_content(here, target, ctx.args["content_type"], size_of(ctx.args["config"]))


def _snapshot_rows(ctx: Context) -> list[VolumeSnapshot]:
    """The rows of the source's snapshots as those of the target's."""
    parts: Parts = ctx.parts
    target = ctx.args["target"]
    rows = parts.places.snapshots.select(*_key({**ctx.args["source"], "name": _source(ctx).name}))
    return [
        msgspec.structs.replace(row.value, pool=target["pool"], project=target["project"], volume=target["name"])
        for row in rows
        if row.value.name in ctx.args["snapshots"]
    ]


def _copied(ctx: Context, change: Change) -> None:
    _made(ctx, change)
    for row in _snapshot_rows(ctx):
        change.put(VOLUME_SNAPSHOT, row, expect=0)


COPY = Saga(
    "storage-volume.copy",
    steps=(
        Step("snapshots", _copy_snapshots, _remove_target),
        Step("copy", _copy, _remove_target),
    ),
    description="Copying storage volume",
    finish=_copied,
)


# Refresh: the content of an existing volume becomes that of its source, and the snapshots that it lacks are copied.


async def _refresh(ctx: Context) -> None:
    there = await _driver(ctx, ctx.args["source"]).mount(_source(ctx))
    here = await _driver(ctx, ctx.args["target"]).mount(_volume(ctx.args["target"]))
    await host.sync_tree(there, here)
    await asyncio.to_thread(durable.sync_tree, here)


async def _drop_copied_snapshots(ctx: Context) -> None:
    target = ctx.args["target"]
    for name in ctx.args["snapshots"]:
        await _driver(ctx, target).remove(_volume(target).at(name))


def _refreshed(ctx: Context, change: Change) -> None:
    for row in _snapshot_rows(ctx):
        change.put(VOLUME_SNAPSHOT, row, expect=0)
    change.event(_event(ctx, "storage-volume-updated", ctx.args["target"]))


REFRESH = Saga(
    "storage-volume.refresh",
    steps=(
        Step("snapshots", _copy_snapshots, _drop_copied_snapshots),
        Step("refresh", _refresh),
    ),
    description="Copying storage volume",
    finish=_refreshed,
)


# Move: within a pool a rename; else a copy, then the rows change sides, then the source goes. From the moment at which the rows have
# changed sides nothing turns back: whatever fails later, the rest is done.


async def _rename(ctx: Context) -> None:
    await _driver(ctx, ctx.args["source"]).rename(_volume(ctx.args["source"]), _volume(ctx.args["target"]))


async def _rename_back(ctx: Context) -> None:
    driver, source = _driver(ctx, ctx.args["source"]), _volume(ctx.args["source"])
    if not await driver.exists(source):
        await driver.rename(_volume(ctx.args["target"]), source)


async def _switch(ctx: Context) -> None:
    """The rows of the source become those of the target; nothing happens if they did."""
    for attempt in range(SWITCHES):
        change = Change()
        _moved(ctx, change)
        try:
            if change:
                await ctx.store.commit(change)
            return
        except errors.Conflict:  # somebody has changed the volume's configuration meanwhile
            if attempt == SWITCHES - 1:
                raise
            await ctx.store.refresh()


async def _has_switched(ctx: Context) -> bool:
    parts: Parts = ctx.parts
    await ctx.store.refresh()
    return parts.places.volumes.get(*_key(ctx.args["target"])) is not None


async def _remove_target_unless_switched(ctx: Context) -> None:
    if not await _has_switched(ctx):
        await _remove_target(ctx)


async def _move_backups_back_unless_switched(ctx: Context) -> None:
    if not await _has_switched(ctx):
        await _move_backups_back(ctx)


async def _remove_source(ctx: Context) -> None:
    """The volume is the target: what cannot be removed now must not fail the operation."""
    try:
        await _driver(ctx, ctx.args["source"]).remove(_volume(ctx.args["source"]))
    except errors.Fault as fault:
        log.error("A moved volume cannot be removed from its old pool", volume=ctx.args["source"], reason=fault.text)


async def _remove_source_if_switched(ctx: Context) -> None:
    if await _has_switched(ctx):
        await _remove_source(ctx)


def _moved(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    source, target = ctx.args["source"], ctx.args["target"]
    row = parts.places.volumes.get(*_key(source))
    if row is None:
        return
    fields = {"pool": target["pool"], "project": target["project"]}
    if source["project"] != target["project"]:
        _take_room(ctx, change, row.value.config)
    change.delete(VOLUME, row.key, expect=row.revision)
    change.put(VOLUME, msgspec.structs.replace(row.value, name=target["name"], **fields), expect=0)
    for snapshot in parts.places.snapshots.select(*_key(source)):
        change.delete(VOLUME_SNAPSHOT, snapshot.key, expect=None)
        change.put(VOLUME_SNAPSHOT, msgspec.structs.replace(snapshot.value, volume=target["name"], **fields), expect=0)
    for backup in parts.backup_rows.select(source["pool"], source["project"], source["name"]):
        change.delete(VOLUME_BACKUP, backup.key, expect=None)
        change.put(VOLUME_BACKUP, msgspec.structs.replace(backup.value, volume=target["name"], **fields), expect=0)
    if source["project"] == target["project"]:
        change.event(_event(ctx, "storage-volume-renamed", target, {"old_name": source["name"]}))
    else:  # to the listeners of either project it goes and comes
        change.event(_event(ctx, "storage-volume-created", target, {"type": "custom"}))
        change.event(_event(ctx, "storage-volume-deleted", source))


async def _move_backups(ctx: Context) -> None:
    await _shift_backups(ctx, ctx.args["source"], ctx.args["target"])


async def _move_backups_back(ctx: Context) -> None:
    await _shift_backups(ctx, ctx.args["target"], ctx.args["source"])


async def _shift_backups(ctx: Context, old: Spot, new: Spot) -> None:
    parts: Parts = ctx.parts
    await asyncio.to_thread(parts.backups.move, old["pool"], _volume(old), new["pool"], _volume(new))


BACKUPS = Step("backups", _move_backups, _move_backups_back, light=True)
RENAME = Saga(
    "storage-volume.rename",
    steps=(BACKUPS, Step("rename", _rename, _rename_back)),
    description="Renaming storage volume",
    finish=_moved,
)
MOVE_WITHIN = Saga(
    "storage-volume.move-within",
    steps=(BACKUPS, Step("rename", _rename, _rename_back)),
    description="Moving storage volume",
    finish=_moved,
)
MOVE = Saga(
    "storage-volume.move",
    steps=(
        Step("snapshots", _copy_snapshots, _remove_target_unless_switched),
        Step("copy", _copy, _remove_target_unless_switched),
        Step("backups", _move_backups, _move_backups_back_unless_switched, light=True),
        Step("switch", _switch, _remove_source_if_switched),
        Step("remove", _remove_source),
    ),
    description="Moving storage volume",
)


# Delete.


async def _delete(ctx: Context) -> None:
    parts: Parts = ctx.parts
    await _remove_target(ctx)
    parts.backups.forget(ctx.args["target"]["pool"], _volume(ctx.args["target"]))


def _deleted(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    target = ctx.args["target"]
    for backup in parts.backup_rows.select(target["pool"], target["project"], target["name"]):
        change.delete(VOLUME_BACKUP, backup.key, expect=None)
    for row in parts.places.snapshots.select(*_key(target)):
        change.delete(VOLUME_SNAPSHOT, row.key, expect=None)
        snapshot = snapshot_url(target["pool"], "custom", target["name"], row.value.name, target["project"])
        change.event(_told(ctx, "storage-volume-snapshot-deleted", target, snapshot))
    change.delete(VOLUME, _key(target), expect=None)
    change.event(_event(ctx, "storage-volume-deleted", target))


DELETE = Saga(
    "storage-volume.delete",
    steps=(Step("remove", _delete),),
    description="Deleting storage volume",
    finish=_deleted,
)

SAGAS = (CREATE, COPY, REFRESH, RENAME, MOVE_WITHIN, MOVE, DELETE)
