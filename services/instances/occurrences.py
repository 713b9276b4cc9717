"""Lifecycle events of this service, with LXD's names and sources."""

from __future__ import annotations

import asyncio
from typing import Any

from chassis.events import Event, Requestor, lifecycle
from chassis.operations import requestor_of
from chassis.store import Change, Store
from rows.instance import Instance
from services.instances.names import instance_url, profile_url
from services.instances.parts import Parts

MOMENT = 0.005  # seconds


def of_instance(
    action: str,
    project: str,
    name: str,
    *,
    requestor: Requestor | None = None,
    context: dict[str, Any] | None = None,
    location: str = "none",
    below: str = "",
) -> Event:
    """ "instance-started" of c1. `below`: the part of the address after the instance's own ("/logs/lxc.log")."""
    source = instance_url(project, name)
    if below:
        path, mark, query = source.partition("?")
        source = f"{path}{below}{mark}{query}"
    return lifecycle(action, source, project=project, requestor=requestor, context=context, location=location)


def of_profile(
    action: str,
    project: str,
    name: str,
    *,
    requestor: Requestor | None = None,
    context: dict[str, Any] | None = None,
    location: str = "none",
) -> Event:
    return lifecycle(
        action, profile_url(project, name), project=project, requestor=requestor, context=context, location=location
    )


def asked(
    parts: Parts, action: str, instance: Instance, context: dict[str, Any] | None = None, below: str = ""
) -> Event:
    """What the present caller asked for, done on this member. `below` as in `of_instance`."""
    project, name = instance.project, instance.name
    by, location = requestor_of(), parts.member
    return of_instance(action, project, name, requestor=by, context=context, location=location, below=below)


async def tell(
    parts: Parts, action: str, instance: Instance, context: dict[str, Any] | None = None, below: str = ""
) -> None:
    """The same, told by itself: of what changes no row."""
    await parts.store.commit(Change().event(asked(parts, action, instance, context, below)))


class Telling:
    """An event that waits a moment for a change that it can travel with: one write less for a command that ends at once."""

    def __init__(self, store: Store, event: Event) -> None:
        self._store = store
        self._event = event
        self._taken = False
        self._told = False
        self._tried = asyncio.Event()

    async def run(self) -> None:
        """Tell it by itself, unless `rest` comes first."""
        await asyncio.sleep(MOMENT)
        if self._taken:
            return
        self._taken = True
        try:
            await self._store.commit(Change().event(self._event))
            self._told = True
        finally:
            self._tried.set()

    async def rest(self) -> Change:
        """What the change at hand still has to tell."""
        if self._taken:
            await self._tried.wait()
        self._taken = True
        return Change() if self._told else Change().event(self._event)
