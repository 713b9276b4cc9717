"""A forced stop that was asked for while a clean stop, or a restart, waits: that one is told to hurry, and what still runs is stopped.

Arguments: `name`; `waits_for`, the id of the operation under way. It takes no lock: the other one has it.
"""

from __future__ import annotations

from chassis.errors import Internal
from chassis.operations import SUCCESS
from chassis.saga import Context, Saga, Step
from services.instances import names
from services.instances.host.spec import Key
from services.instances.sagas import stop
from services.instances.sagas.subject import locks, parts_of

PAUSE = 1.0  # seconds between two reminders


async def hurry(ctx: Context) -> None:
    """Until the other operation has ended, however it ends."""
    parts = parts_of(ctx)
    operations = parts.sagas.operations
    while (row := operations.rows.get(ctx.args["waits_for"])) is not None and not row.value.final:
        parts.hurries[Key(ctx.project, ctx.args["name"])].set()
        await operations.wait(ctx.args["waits_for"], PAUSE)


async def end(ctx: Context) -> None:
    """It runs in spite of that: it was a restart, or the clean stop failed. An operation of its own, found again by its key."""
    parts, name = parts_of(ctx), ctx.args["name"]
    if parts.roster.live(ctx.project, name) is None:
        return
    accepted = await parts.sagas.accept(
        stop.SAGA,
        stop.arguments(name, force=True),
        project=ctx.project,
        resources={"instances": [names.instance_url(ctx.project, name)]},
        locks=locks(ctx.project, name),
        key=f"{ctx.operation.id}/stop",
    )
    ended = await parts.sagas.operations.wait(accepted.id)
    if ended.status_code != SUCCESS:
        raise Internal(ended.err)


SAGA = Saga("instance.hurry", (Step("hurry", hurry), Step("end", end)), description="Stopping instance")
