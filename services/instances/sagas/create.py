"""Create an instance from an image, or from nothing.

Arguments: those of `creation.arguments`. The row stands as soon as its name is taken (others see it, stopped); when a later step fails
it is taken away again. Templates are filled in at the first start.
"""

from __future__ import annotations

from typing import Any

from chassis.errors import Conflict, Internal, NotFound, Unavailable
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE
from services.instances import allowed, backupfile, creation
from services.instances.creation import ImageFacts
from services.instances.expansion import root_disk
from services.instances.sagas import erase
from services.instances.sagas.subject import known_subject, parts_of, subject, tell

TRIES = 20
EXISTS = 'Add instance info to the database: This "instances" entry already exists'


async def find_image(ctx: Context) -> dict[str, Any]:
    """What the instance takes from its image."""
    wanted = ctx.args["image"]
    if not wanted:
        return {}
    try:
        image = await parts_of(ctx).images.resolve(wanted["project"], fingerprint=wanted["fingerprint"])
    except NotFound:
        raise Internal("Image not provided for instance creation") from None
    if image.type != ctx.args["type"]:
        raise Internal(f'Requested image\'s type "{image.type}" doesn\'t match instance type "{ctx.args["type"]}"')
    return {
        "project": image.project,
        "fingerprint": image.fingerprint,
        "architecture": image.architecture,
        "properties": image.properties,
        "profiles": list(image.profiles),
    }


def _facts(ctx: Context) -> ImageFacts:
    found = ctx.results["image"]
    if not found:
        return ImageFacts()
    return ImageFacts(found["fingerprint"], found["architecture"], found["properties"], tuple(found["profiles"]))


async def record(ctx: Context) -> None:
    """Take the name: put the row. Standing there already with our uid, an earlier run of this step put it."""
    parts = parts_of(ctx)
    for _ in range(TRIES):
        known = known_subject(ctx)
        if known is not None:
            if known.value.uid == ctx.args["uid"]:
                return
            raise Internal(f"{creation.RECORD}{EXISTS}")
        row, expanded = creation.new_row(parts, ctx.project, ctx.args, _facts(ctx))
        await creation.validate(parts, row, expanded)
        change = Change().put(INSTANCE, row, expect=0)
        allowed.take(parts, change, ctx.project, allowed.held(row, expanded), allowed.CREATION)
        try:
            await parts.store.commit(change)
            return
        except Conflict:  # the name, or the project's room, was taken at the same moment
            await parts.store.refresh()
    raise Unavailable(f'Too many instances are being made in project "{ctx.project}" at once')


async def withdraw(ctx: Context) -> None:
    """Take the row away, if it is ours."""
    known = known_subject(ctx)
    if known is not None and known.value.uid == ctx.args["uid"]:
        await parts_of(ctx).store.commit(Change().delete(INSTANCE, known.row.key, expect=None))


async def make_volume(ctx: Context) -> str:
    member = subject(ctx)
    _, device = root_disk(member.expanded.devices)
    config = {"size": device["size"]} if device.get("size") else {}
    path = await parts_of(ctx).volumes.ensure(member.volume, config, image=_facts(ctx).fingerprint)
    await backupfile.write(parts_of(ctx), member, path)
    return str(path)


async def remove_volume(ctx: Context) -> None:
    known = known_subject(ctx)
    if known is not None and known.value.uid == ctx.args["uid"]:
        await erase.from_host(parts_of(ctx), known)


async def created(ctx: Context, change: Change) -> None:
    member = subject(ctx)
    if image := ctx.results["image"]:
        await parts_of(ctx).images.used(image["project"], image["fingerprint"])
    tell(ctx, change, "instance-created", context={"storage-pool": member.volume.pool, "type": member.value.type})


SAGA = Saga(
    "instance.create",
    (
        Step("image", find_image, light=True, checks=True),
        Step("record", record, withdraw, light=True, checks=True),
        Step("volume", make_volume, remove_volume),
    ),
    description="Creating instance",
    finish=created,
)
