"""What a listener of /1.0/events may hear and wants to; and the progress ticks, which the operations' endpoints show as well."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from chassis import errors
from chassis.errors import Unavailable
from chassis.feed import Feed, Heard, Listener
from services.gateway.auth import not_authorized
from services.gateway.operations import Operations
from services.gateway.requests import Request

TYPES = ("operation", "logging", "lifecycle")
PRIVILEGED = "logging"
AGAIN = 0.1  # seconds until ticks are followed again after a cut


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks to hear. `project` None means all; `since` None means from now on."""

    types: frozenset[str]
    project: str | None
    since: int | None

    def listen(self, feed: Feed) -> Listener:
        return feed.listen(self.types, project=self.project, since=self.since)


def wish_of(request: Request) -> Wish:
    """Raises what LXD answers to a wish that is wrong or not allowed."""
    caller, query = request.caller, request.query
    everywhere = request.flag("all-projects")
    if everywhere and query.get("project"):
        raise errors.Internal("Cannot specify a project when requesting all projects")
    if not caller.trusted or (everywhere and not caller.admin):
        raise not_authorized()
    if not everywhere and not caller.may_see(request.project):
        raise not_authorized()
    asked = query["type"].split(",") if query.get("type") else []
    for name in asked:
        if name not in TYPES:
            raise errors.Internal(f'"{name}" isn\'t a supported event type')
    if PRIVILEGED in asked and not caller.admin:
        raise not_authorized()
    types = asked or [name for name in TYPES if caller.admin or name != PRIVILEGED]
    since = request.number("since", -1) if "since" in query else None
    return Wish(frozenset(types), None if everywhere else request.project, since)


@lru_cache(maxsize=64)
def shown(heard: Heard) -> str:
    """As LXD sends it, a line of JSON, with the additive field `sequence`; made once for all who listen at the same time."""
    return heard.json().decode() + "\n"


class _Tick(msgspec.Struct):
    metadata: dict[str, Any]


_tick = msgspec.json.Decoder(_Tick).decode


async def follow_ticks(feed: Feed, operations: Operations) -> None:
    """Hand every progress tick to the operations' endpoints; for ever."""
    while True:
        try:
            async with feed.listen({"operation"}) as listener:
                async for heard in listener:
                    if not heard.sequence:
                        operations.tick(_tick(heard.data).metadata)
        except (Unavailable, msgspec.MsgspecError):
            await asyncio.sleep(AGAIN)
