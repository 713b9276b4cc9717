"""Make running instances follow a profile that has changed: an update of each, accepted under a key so that running this again finds it.

The profile's new row is part of the change that accepts this, so a crash in between leaves no instance behind. Arguments: `plans`, a list
of {project, name, plan}. What fails for one instance is told of, the profile stays changed and the others follow (as in LXD).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from chassis.errors import Fault, Internal, Unavailable
from chassis.operations import SUCCESS
from chassis.saga import Context, Saga, Step
from services.instances import names
from services.instances.sagas import update
from services.instances.sagas.subject import locks, parts_of

Plans = Sequence[dict[str, Any]]


async def reach(ctx: Context) -> None:
    problems = await asyncio.gather(*(_one(ctx, **wanted) for wanted in ctx.args["plans"]))
    told = [problem for problem in problems if problem]
    if told:
        lines = "".join(f"\n - {text}" for text in told)
        raise Internal(f"The following instances failed to update (profile change still saved):{lines}")


async def _one(ctx: Context, project: str, name: str, plan: dict[str, Any]) -> str:
    """What went wrong with one of them."""
    sagas = parts_of(ctx).sagas
    try:
        accepted = await sagas.accept(
            update.SAGA,
            {"name": name, "plan": plan},
            project=project,
            resources=names.resources(project, name),
            locks=locks(project, name),
            key=f"{ctx.operation.id}/{name}",
        )
        ended = await sagas.operations.wait(accepted.id)
    except Unavailable:
        raise
    except Fault as fault:
        return f"Project: {project}, Instance: {name}: {fault.text}"
    return "" if ended.status_code == SUCCESS else f"Project: {project}, Instance: {name}: {ended.err}"


SAGA = Saga("profile.update", (Step("reach", reach),), description="Updating profile")
