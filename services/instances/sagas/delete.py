"""Delete a stopped instance. It only goes forward: what fails leaves the row, and deleting again goes on where this ended.

Arguments: `name`.
"""

from __future__ import annotations

from chassis.errors import BadRequest
from chassis.keys import Config
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE, SNAPSHOT
from services.instances.keys.security import PROTECTION_DELETE
from services.instances.sagas import erase
from services.instances.sagas.subject import known_subject, parts_of, subject, tell


async def refuse_protected(ctx: Context) -> None:
    member = subject(ctx)
    if Config(member.expanded.config)[PROTECTION_DELETE]:
        raise BadRequest("Container is protected")
    if parts_of(ctx).roster.live(ctx.project, member.value.name) is not None:
        raise BadRequest("Instance is running")


async def erase_from_host(ctx: Context) -> None:
    await erase.from_host(parts_of(ctx), subject(ctx))


def deleted(ctx: Context, change: Change) -> None:
    member = known_subject(ctx)
    if member is None:
        return
    change.delete(INSTANCE, member.row.key, expect=member.row.revision)
    for snapshot in parts_of(ctx).snapshots.select(ctx.project, member.value.name):
        change.delete(SNAPSHOT, snapshot.key, expect=snapshot.revision)
    tell(ctx, change, "instance-deleted")


SAGA = Saga(
    "instance.delete",
    (
        Step("refuse", refuse_protected, light=True, checks=True),
        Step("host", erase_from_host, light=True),
    ),
    description="Deleting instance",
    finish=deleted,
)
