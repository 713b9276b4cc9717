"""Make instances follow a profile that has changed: what runs is updated on the host, of the others it is only told.

The profile's new row is part of the change that accepts this, so a crash in between leaves no instance behind. Arguments: `profile`,
{project, name, before, after}, the latter two its {config, devices}; `told` and `reached`, lists of [project, name]: an update of each
of the reached is accepted under a key, so that running this again finds it. What fails for one of them is told of, the profile stays
changed and the others follow (as in LXD).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from chassis.errors import Fault, Internal, NotFound, Unavailable
from chassis.operations import SUCCESS
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.profile import Profile
from services.instances import change as changes
from services.instances import names
from services.instances.expansion import expand
from services.instances.occurrences import of_instance, of_profile
from services.instances.roster import Member
from services.instances.sagas import update
from services.instances.sagas.subject import locks, parts_of

AT_ONCE = 900  # rows and events of one change; nats-server takes 1,000 messages in a batch
TOGETHER = 16  # updates that run at the same time
Names = Sequence[tuple[str, str]]


def arguments(before: Profile, after: Profile, *, reached: Names, told: Names) -> dict[str, Any]:
    profile = {"project": after.project, "name": after.name, "before": _editable(before), "after": _editable(after)}
    return {"profile": profile, "reached": reached, "told": told}


def _editable(profile: Profile) -> dict[str, Any]:
    return {"config": profile.config, "devices": profile.devices}


def updated(ctx: Context, project: str, name: str) -> Any:
    """The event of one instance."""
    operation = ctx.operation
    return of_instance("instance-updated", project, name, requestor=operation.requestor, location=operation.location)


async def tell_users(ctx: Context) -> None:
    told = ctx.args["told"]
    for first in range(0, len(told), AT_ONCE):
        change = Change()
        for project, name in told[first : first + AT_ONCE]:
            change.event(updated(ctx, project, name))
        await ctx.store.commit(change)


async def reach(ctx: Context) -> None:
    room = asyncio.Semaphore(TOGETHER)

    async def one(project: str, name: str) -> str:
        async with room:
            return await _one(ctx, project, name)

    problems = await asyncio.gather(*(one(project, name) for project, name in ctx.args["reached"]))
    told = [problem for problem in problems if problem]
    if told:
        lines = "".join(f"\n - {text}" for text in told)
        raise Internal(f"The following instances failed to update (profile change still saved):{lines}")


async def _one(ctx: Context, project: str, name: str) -> str:
    """What went wrong with one of them."""
    parts = parts_of(ctx)
    try:
        accepted = await parts.sagas.accept(
            update.SAGA,
            {"name": name, "plan": _plan(ctx, parts.roster.one(project, name)), "by": _requestor(ctx)},
            project=project,
            resources=names.resources(project, name),
            locks=locks(project, name),
            key=f"{ctx.operation.id}/{name}",
        )
        ended = await parts.sagas.operations.wait(accepted.id)
    except Unavailable:
        raise
    except NotFound:
        return ""  # it went meanwhile
    except Fault as fault:
        return f"Project: {project}, Instance: {name}: {fault.text}"
    return "" if ended.status_code == SUCCESS else f"Project: {project}, Instance: {name}: {ended.err}"


def _plan(ctx: Context, member: Member) -> dict[str, Any]:
    """What the change of the profile means for the instance."""
    changed = ctx.args["profile"]

    def expanded(side: str) -> Any:
        new = {**changed[side], "project": changed["project"], "name": changed["name"]}
        profiles = [
            msgspec.convert(new, Profile) if one.name == changed["name"] else one
            for one in parts_of(ctx).roster.profiles_of(member.value.project, member.value.profiles)
        ]
        return expand(profiles, member.value.config, member.value.devices)

    return changes.plan(replace(member, expanded=expanded("before")), None, expanded("after"))


def _requestor(ctx: Context) -> Any:
    return msgspec.to_builtins(ctx.operation.requestor)


def profile_updated(ctx: Context, change: Change) -> None:
    profile, operation = ctx.args["profile"], ctx.operation
    change.event(
        of_profile(
            "profile-updated",
            profile["project"],
            profile["name"],
            requestor=operation.requestor,
            location=operation.location,
        )
    )


SAGA = Saga(
    "profile.update",
    (Step("tell", tell_users), Step("reach", reach)),
    description="Updating profile",
    finish=profile_updated,
    abandon=profile_updated,  # the profile stays changed
)
