"""The instance that a saga works on, as its arguments name it, and the row that its end writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from chassis.errors import Internal
from chassis.events import Requestor
from chassis.saga import Context
from chassis.store import Change
from rows.instance import INSTANCE, Instance
from services.instances.occurrences import of_instance
from services.instances.parts import Parts
from services.instances.roster import Member


def parts_of(ctx: Context) -> Parts:
    parts: Parts = ctx.parts
    return parts


def subject(ctx: Context) -> Member:
    """The instance as it is now. Raises Internal when it is gone (it cannot be: the saga holds its lock)."""
    member = known_subject(ctx)
    if member is None:
        raise Internal(f'Instance "{ctx.args["name"]}" is gone')
    return member


def known_subject(ctx: Context) -> Member | None:
    return parts_of(ctx).roster.get(ctx.project, ctx.args["name"])


def locks(project: str, *names: str) -> tuple[tuple[str, str, str], ...]:
    """The locks of one writer of each of these instances."""
    return tuple(("instance", project, name) for name in names)


def rewrite(ctx: Context, change: Change, **fields: Any) -> Instance | None:
    """Put the instance's row with these fields changed, guarded by what was read. None if there is no row any more."""
    member = known_subject(ctx)
    if member is None:
        return None
    row = msgspec.structs.replace(member.value, **fields)
    change.put(INSTANCE, row, expect=member.row.revision)
    return row


def tell(ctx: Context, change: Change, action: str, *, name: str = "", context: dict[str, Any] | None = None) -> None:
    """The lifecycle event, in the change that ends the operation. The argument `by`: for whom another saga asked for it."""
    change.event(
        of_instance(
            action,
            ctx.project,
            name or ctx.args["name"],
            requestor=msgspec.convert(ctx.args.get("by"), Requestor | None) or ctx.operation.requestor,
            context=context,
            location=ctx.operation.location,
        )
    )


def now() -> datetime:
    return datetime.now(UTC)
