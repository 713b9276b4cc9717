"""Freeze and unfreeze a running instance.

Arguments: `name`.
"""

from __future__ import annotations

from chassis.errors import BadRequest
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from services.instances.host.spec import Key, Live
from services.instances.sagas.subject import parts_of, tell


def _key(ctx: Context) -> Key:
    return Key(ctx.project, ctx.args["name"])


async def refuse_frozen(ctx: Context) -> None:
    if _live(ctx).frozen:
        raise BadRequest("The container is already frozen")


async def refuse_thawed(ctx: Context) -> None:
    if not _live(ctx).frozen:
        raise BadRequest("The container is already running")


def _live(ctx: Context) -> Live:
    live = parts_of(ctx).roster.live(ctx.project, ctx.args["name"])
    if live is None:
        raise BadRequest("The container isn't running")
    return live


async def freeze(ctx: Context) -> None:
    await parts_of(ctx).host.freeze(_key(ctx))


async def unfreeze(ctx: Context) -> None:
    await parts_of(ctx).host.unfreeze(_key(ctx))


def frozen(ctx: Context, change: Change) -> None:
    tell(ctx, change, "instance-paused")


def thawed(ctx: Context, change: Change) -> None:
    tell(ctx, change, "instance-resumed")


FREEZE = Saga(
    "instance.freeze",
    (Step("refuse", refuse_frozen, checks=True), Step("freeze", freeze)),
    description="Freezing instance",
    finish=frozen,
)
UNFREEZE = Saga(
    "instance.unfreeze",
    (Step("refuse", refuse_thawed, checks=True), Step("unfreeze", unfreeze)),
    description="Unfreezing instance",
    finish=thawed,
)
