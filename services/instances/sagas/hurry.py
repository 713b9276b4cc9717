"""A forced stop that was asked for while a clean one waits: the waiting one is told to hurry, and this operation ends as that one does.

Arguments: `name`; `waits_for`, the id of the operation under way. It takes no lock: the other one has it.
"""

from __future__ import annotations

from chassis.errors import Internal
from chassis.operations import SUCCESS
from chassis.saga import Context, Saga, Step
from services.instances.host.spec import Key
from services.instances.sagas.subject import parts_of

PAUSE = 1.0  # seconds between two reminders


async def hurry(ctx: Context) -> None:
    parts = parts_of(ctx)
    while True:
        row = parts.sagas.operations.rows.get(ctx.args["waits_for"])
        if row is None:
            return
        if row.value.final:
            break
        parts.hurries[Key(ctx.project, ctx.args["name"])].set()
        await parts.sagas.operations.wait(ctx.args["waits_for"], PAUSE)
    if row.value.status_code != SUCCESS:
        raise Internal(row.value.err)


SAGA = Saga("instance.hurry", (Step("hurry", hurry),), description="Stopping instance")
