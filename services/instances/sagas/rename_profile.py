"""Give a profile another name when more instances use it than one change should hold.

The new name stands beside the old one until the last instance has moved, so each names a profile that there is at every moment.
Arguments: `project`, `old`, `new`.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from chassis.errors import Conflict
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE
from rows.profile import PROFILE
from services.instances.occurrences import of_profile
from services.instances.roster import Roster
from services.instances.sagas.subject import parts_of

AT_ONCE = 200  # rows of one change: few enough that others get their turn in between


def arguments(project: str, old: str, new: str) -> dict[str, Any]:
    return {"project": project, "old": old, "new": new}


def locks(project: str, *names: str) -> tuple[tuple[str, str, str], ...]:
    """The locks of one writer of each of these profiles."""
    return tuple(("profile", project, name) for name in names)


def moved(change: Change, roster: Roster, project: str, old: str, new: str) -> int:
    """Put the rows of the instances that use it, so many as one change holds, with the new name. How many."""
    rows = list(islice(roster.by_profile.select((project, old)), AT_ONCE))
    for row in rows:
        profiles = tuple(new if name == old else name for name in row.value.profiles)
        change.put(INSTANCE, msgspec.structs.replace(row.value, profiles=profiles), expect=row.revision)
    return len(rows)


async def copy(ctx: Context) -> None:
    roster, project, new = parts_of(ctx).roster, ctx.args["project"], ctx.args["new"]
    if roster.profiles.get(project, new) is None:
        old = roster.profiles.one(project, ctx.args["old"])
        await ctx.store.commit(Change().put(PROFILE, msgspec.structs.replace(old.value, name=new), expect=0))


async def drop(ctx: Context) -> None:
    row = parts_of(ctx).roster.profiles.get(ctx.args["project"], ctx.args["new"])
    if row is not None:
        await ctx.store.commit(Change().delete(PROFILE, row.key, expect=row.revision))


async def move(ctx: Context) -> None:
    await _move(ctx, ctx.args["old"], ctx.args["new"])


async def move_back(ctx: Context) -> None:
    await _move(ctx, ctx.args["new"], ctx.args["old"])


async def _move(ctx: Context, old: str, new: str) -> None:
    while True:
        change = Change()
        if not moved(change, parts_of(ctx).roster, ctx.args["project"], old, new):
            return
        try:
            await ctx.store.commit(change)
        except Conflict:  # one of them was changed just now
            await ctx.store.refresh()


def renamed(ctx: Context, change: Change) -> None:
    project, old, new = ctx.args["project"], ctx.args["old"], ctx.args["new"]
    roster, operation = parts_of(ctx).roster, ctx.operation
    moved(change, roster, project, old, new)  # those that came meanwhile
    row = roster.profiles.get(project, old)
    if row is not None:
        change.delete(PROFILE, row.key, expect=row.revision)
    change.event(
        of_profile(
            "profile-renamed",
            project,
            new,
            requestor=operation.requestor,
            context={"old_name": old},
            location=operation.location,
        )
    )


SAGA = Saga(
    "profile.rename",
    (Step("copy", copy, drop), Step("move", move, move_back)),
    description="Renaming profile",
    finish=renamed,
)
