"""Move a stopped instance into another project: its volume, its folder on the host, then its row and those of its snapshots.

Arguments: `name`, `new_name`, `new_project`. The instance is locked under both names. It stays what it is (its uuid, its addresses, when it
was made); to the listeners of either project it goes and comes.
"""

from __future__ import annotations

import msgspec

from chassis.errors import BadRequest, Fault, Internal, NotFound
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE, SNAPSHOT, Instance
from services.instances import allowed, rules
from services.instances.creation import RECORD
from services.instances.expansion import Expanded, expand, root_disk
from services.instances.keys import volatile
from services.instances.occurrences import of_instance
from services.instances.sagas import rename
from services.instances.sagas.create import EXISTS
from services.instances.sagas.subject import known_subject, parts_of, subject, tell


async def refuse(ctx: Context) -> None:
    """What the other project has, knows and allows. LXD tells of it in the operation."""
    parts, member, target = parts_of(ctx), subject(ctx), rename.target(ctx)
    if parts.roster.live(ctx.project, member.value.name) is not None:
        raise BadRequest("A running instance cannot be moved to another project")
    if parts.roster.projects.rows.get(target.project) is None:
        raise Internal(f"{RECORD}Project not found")
    if parts.roster.get(target.project, target.name) is not None:
        raise Internal(f"{RECORD}{EXISTS}")
    row, expanded = moved(ctx, member.value)
    try:
        _, root = root_disk(expanded.active)
        if root.get("pool") != member.volume.pool:
            raise Internal(f'Its root disk would be on the storage pool "{root.get("pool", "")}" there')
        await rules.validate_expanded(parts, row.project, row.name, row.type, row.config, expanded)
    except (ValueError, Fault) as fault:
        raise rules.worded(RECORD, fault) from None
    allowed.check(parts, row.project, allowed.held(row, expanded), allowed.CREATION)


def moved(ctx: Context, now: Instance) -> tuple[Instance, Expanded]:
    """The row in the other project, and what the profiles there make of it. Raises Internal for a profile that is not there."""
    parts, target = parts_of(ctx), rename.target(ctx)
    profiles = []
    for name in now.profiles:
        try:
            profiles += parts.roster.profiles_of(target.project, (name,))
        except NotFound:
            raise Internal(f'{RECORD}Requested profile "{name}" doesn\'t exist') from None
    config = now.config
    if target.name != now.name:
        config = {**config, volatile.APPLY_TEMPLATE.name: "rename"}
    row = msgspec.structs.replace(now, project=target.project, name=target.name, config=config)
    return row, expand(profiles, row.config, row.devices)


def arrived(ctx: Context, change: Change) -> None:
    member, parts = known_subject(ctx), parts_of(ctx)
    if member is None:
        return
    row, expanded = moved(ctx, member.value)
    allowed.take(parts, change, row.project, allowed.held(row, expanded), allowed.CREATION)
    change.delete(INSTANCE, member.row.key, expect=member.row.revision)
    change.put(INSTANCE, row, expect=0)
    for snapshot in parts.snapshots.select(ctx.project, member.value.name):
        change.delete(SNAPSHOT, snapshot.key, expect=snapshot.revision)
        gone = msgspec.structs.replace(snapshot.value, project=row.project, instance=row.name)
        change.put(SNAPSHOT, gone, expect=0)
    context = {"storage-pool": member.volume.pool, "type": row.type}
    requestor, location = ctx.operation.requestor, ctx.operation.location
    told = of_instance(
        "instance-created", row.project, row.name, requestor=requestor, context=context, location=location
    )
    change.event(told)
    tell(ctx, change, "instance-deleted")


SAGA = Saga(
    "instance.move",
    (Step("refuse", refuse, light=True, checks=True), rename.NICS, rename.VOLUME, rename.FOLDER),
    description="Migrating instance",
    finish=arrived,
)
