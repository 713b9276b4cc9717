"""Lifecycle events of what this service owns."""

from __future__ import annotations

from typing import Any

from chassis.calls import Call
from chassis.events import Event, lifecycle
from chassis.operation import requestor_of
from chassis.references import in_project


def told(action: str, path: str, project: str, member: str, call: Call, context: dict[str, Any] | None = None) -> Event:
    """The event that `action` happened to what stands at `path`, with who asked for it."""
    source = in_project(path, project)
    requestor = requestor_of(call)
    return lifecycle(action, source, project=project, context=context, requestor=requestor, location=member)
