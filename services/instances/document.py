"""Instances as LXD writes them. What a PUT may change is the editable part, which the ETag covers.

A rendered document is kept with the marks of what it was made from; status is part of the marks, because the kernel changes it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chassis import documents
from rows.instance import Instance
from services.instances.host.spec import Live
from services.instances.roster import Member, Roster

NEVER = "1970-01-01T00:00:00Z"
STOPPED, RUNNING, FROZEN, ERROR = (102, "Stopped"), (103, "Running"), (110, "Frozen"), (112, "Error")


def status_of(live: Live | None) -> tuple[int, str]:
    """Code and word of LXD for what the kernel says."""
    if live is None:
        return STOPPED
    return FROZEN if live.frozen else RUNNING


def editable(instance: Instance) -> dict[str, Any]:
    """What a PUT may change."""
    return {
        "architecture": instance.architecture,
        "config": instance.config,
        "devices": instance.devices,
        "ephemeral": instance.ephemeral,
        "profiles": list(instance.profiles),
        "description": instance.description,
    }


def etag(instance: Instance) -> str:
    return documents.etag_of(editable(instance))


def describe(member: Member, live: Live | None) -> dict[str, Any]:
    """The whole of LXD's Instance."""
    instance = member.value
    code, word = status_of(live)
    return {
        "architecture": instance.architecture,
        "config": dict(sorted(instance.config.items())),
        "devices": instance.devices,
        "ephemeral": instance.ephemeral,
        "profiles": list(instance.profiles),
        "stateful": instance.stateful,
        "description": instance.description,
        "created_at": documents.timestamp(instance.created_at),
        "expanded_config": member.expanded.config,
        "expanded_devices": member.expanded.devices,
        "name": instance.name,
        "status": word,
        "status_code": code,
        "last_used_at": documents.timestamp(instance.last_used_at) if instance.last_used_at else NEVER,
        "location": instance.member,
        "type": instance.type,
        "project": instance.project,
    }


def with_all(rendered: bytes, state: bytes) -> bytes:
    """An instance with what belongs to it (recursion 2): the rendered document with backups, state and snapshots after its fields."""
    return rendered[:-1] + b',"backups":null,"state":' + state + b',"snapshots":null}'


class Documents:
    """Rendered instances, kept while nothing that they show has changed."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._kept: dict[tuple[str, ...], tuple[tuple[int, ...], bytes]] = {}
        roster.rows.watch(self._forget)

    def rendered(self, member: Member) -> bytes:
        live = self.roster.live(member.value.project, member.value.name)
        marks = (*member.marks, status_of(live)[0])
        kept = self._kept.get(member.row.key)
        if kept is None or kept[0] != marks:
            kept = marks, documents.render(describe(member, live))
            self._kept[member.row.key] = kept
        return kept[1]

    def decoded(self, member: Member) -> dict[str, Any]:
        """The same as a dict, for filters."""
        found: dict[str, Any] = msgspec.json.decode(self.rendered(member))
        return found

    def _forget(self, key: tuple[str, ...], _old: object, new: object) -> None:
        if new is None:
            self._kept.pop(key, None)
