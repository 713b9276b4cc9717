"""The same action for many instances: one operation each, accepted under a key so that running this again finds them, all waited for.

Arguments: `names`; `state`, the action as LXD's InstanceStatePut has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from chassis.errors import Fault, Internal, Unavailable
from chassis.operations import SUCCESS
from chassis.saga import Context, Saga, Step
from services.instances.actions import accept
from services.instances.body import StateBody
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.sagas.subject import parts_of

AT_ONCE = 8


def concerns(parts: Parts, member: Member, action: str) -> bool:
    """Whether LXD would do it to this one: a running one is not started, a stopped one not stopped."""
    live = parts.roster.live(member.value.project, member.value.name)
    if action == "start":
        return live is None
    if action == "unfreeze":
        return live is not None and live.frozen
    return live is not None


def arguments(names: Sequence[str], state: StateBody) -> dict[str, Any]:
    return {"names": list(names), "state": msgspec.to_builtins(state)}


async def act(ctx: Context) -> None:
    turn = asyncio.Semaphore(AT_ONCE)
    state = msgspec.convert(ctx.args["state"], StateBody)
    problems = await asyncio.gather(*(_one(ctx, name, state, turn) for name in ctx.args["names"]))
    told = [problem for problem in problems if problem]
    if told:
        raise Internal(
            "The following instances failed to update state:\n" + "".join(f" - Instance: {text}\n" for text in told)
        )


async def _one(ctx: Context, name: str, state: StateBody, turn: asyncio.Semaphore) -> str:
    """What went wrong with one of them."""
    parts = parts_of(ctx)
    member = parts.roster.get(ctx.project, name)
    if member is None:
        return ""
    async with turn:
        try:
            accepted = await accept(parts, member, state, key=f"{ctx.operation.id}/{name}")
            ended = await parts.sagas.operations.wait(accepted.id)
        except Unavailable:
            raise  # this runs again, and finds what was accepted
        except Fault as fault:
            return f"{name}: {fault.text}"
    return "" if ended.status_code == SUCCESS else f"{name}: {ended.err}"


SAGA = Saga("instance.bulk", (Step("act", act),), description="Updating instances")
