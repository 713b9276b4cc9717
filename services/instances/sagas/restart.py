"""Stop an instance and start it again, as one operation. Its volume stays mounted in between.

Arguments: those of a start, and `force` and `timeout` of a stop. When the start fails the instance is left
stopped, and what looks after exits (`exits`) makes its row say so.
"""

from __future__ import annotations

from typing import Any

from chassis.errors import BadRequest
from chassis.saga import Context, Saga, Step
from services.instances import hostside
from services.instances.roster import Member
from services.instances.sagas import start, stop
from services.instances.sagas.subject import parts_of, subject


def arguments(member: Member, *, force: bool, timeout: int = -1) -> dict[str, Any]:
    return {
        **stop.arguments(member.value.name, force=force, timeout=timeout),
        **start.arguments(member, "instance-restarted"),
    }


async def refuse_stopped(ctx: Context) -> int:
    """The pid that is to end."""
    live = parts_of(ctx).roster.live(ctx.project, ctx.args["name"])
    if live is None:
        raise BadRequest(stop.REFUSAL)
    return live.pid


async def end_container(ctx: Context) -> None:
    """Stop the one that ran when this began; if another pid runs, an earlier run of this saga has started it."""
    live = parts_of(ctx).roster.live(ctx.project, ctx.args["name"])
    if live is not None and live.pid == ctx.results["refuse"]:
        await stop.end_container(ctx)


async def detach(ctx: Context) -> None:
    parts, member = parts_of(ctx), subject(ctx)
    async with parts.turn(member.key):
        await hostside.detach(parts, member)


SAGA = Saga(
    "instance.restart",
    (
        Step("refuse", refuse_stopped, checks=True),
        Step("stop", end_container),
        Step("detach", detach, light=True),
        Step("volume", start.mount, light=True),
        Step("templates", start.fill_templates, light=True),
        Step("ids", start.choose_ids, light=True),
        Step("devices", start.attach, start.detach),
        Step("container", start.run, start.kill),
    ),
    description="Restarting instance",
    finish=start.started,
)
