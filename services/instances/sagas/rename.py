"""Rename a stopped instance: its volume, its folder on the host, then its row.

Arguments: `name`, `new_name`. Both names are locked.
"""

from __future__ import annotations

import msgspec

from chassis.errors import BadRequest, Conflict
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE, SNAPSHOT
from services.instances import hostside
from services.instances.devices.nic import forget_nic
from services.instances.host.spec import Key
from services.instances.keys import volatile
from services.instances.sagas.subject import known_subject, parts_of, subject, tell


async def refuse(ctx: Context) -> None:
    member = subject(ctx)
    if parts_of(ctx).roster.live(ctx.project, member.value.name) is not None:
        raise BadRequest("Renaming of running container not allowed")
    if parts_of(ctx).roster.get(ctx.project, ctx.args["new_name"]) is not None:
        raise Conflict(f'Name "{ctx.args["new_name"]}" already in use')


async def forget_nics(ctx: Context) -> None:
    """Leases and static addresses go by the name: they are made anew at the next start."""
    parts, member = parts_of(ctx), subject(ctx)
    for device, config in member.expanded.active.items():
        if config.get("type") == "nic":
            owner = hostside.owner_of(member, device)
            await forget_nic(parts, owner.project, owner.instance, owner.type, device, config, owner.volatile)


def target(ctx: Context) -> Key:
    """What it becomes: of the same project, but for a move (sagas/move.py)."""
    return Key(ctx.args.get("new_project", ctx.project), ctx.args["new_name"])


async def rename_volume(ctx: Context) -> None:
    volume = subject(ctx).volume
    await parts_of(ctx).volumes.rename(volume, volume.of(target(ctx)))


async def rename_volume_back(ctx: Context) -> None:
    volume = subject(ctx).volume
    await parts_of(ctx).volumes.rename(volume.of(target(ctx)), volume)


async def move_folder(ctx: Context) -> None:
    await parts_of(ctx).host.rename(Key(ctx.project, ctx.args["name"]), target(ctx))


async def move_folder_back(ctx: Context) -> None:
    await parts_of(ctx).host.rename(target(ctx), Key(ctx.project, ctx.args["name"]))


def renamed(ctx: Context, change: Change) -> None:
    member = known_subject(ctx)
    if member is None:
        return
    new_name = ctx.args["new_name"]
    config = {**member.value.config, volatile.APPLY_TEMPLATE.name: "rename"}
    change.delete(INSTANCE, member.row.key, expect=member.row.revision)
    change.put(INSTANCE, msgspec.structs.replace(member.value, name=new_name, config=config), expect=0)
    for snapshot in parts_of(ctx).snapshots.select(ctx.project, member.value.name):
        change.delete(SNAPSHOT, snapshot.key, expect=snapshot.revision)
        change.put(SNAPSHOT, msgspec.structs.replace(snapshot.value, instance=new_name), expect=0)
    tell(ctx, change, "instance-renamed", name=new_name, context={"old_name": member.value.name})


NICS = Step("nics", forget_nics, light=True)
VOLUME = Step("volume", rename_volume, rename_volume_back)
FOLDER = Step("folder", move_folder, move_folder_back, light=True)
SAGA = Saga(
    "instance.rename",
    (Step("refuse", refuse, light=True, checks=True), NICS, VOLUME, FOLDER),
    description="Renaming instance",
    finish=renamed,
)
