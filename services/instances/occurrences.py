"""Lifecycle events of this service, with LXD's names and sources."""

from __future__ import annotations

from typing import Any

from chassis.events import Event, Requestor, lifecycle
from services.instances.names import instance_url, profile_url


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
