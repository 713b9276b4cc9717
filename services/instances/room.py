"""Whether a project has room for one more instance: its limits on their number, kept also when many are made at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.errors import Internal
from chassis.operations import Operations
from services.instances.roster import Roster

# Key of the project -> the type of instance that it counts; None counts all.
LIMITS = {"limits.instances": None, "limits.containers": "container", "limits.virtual-machines": "virtual-machine"}
PREFIX = "Failed checking if instance creation allowed: "


class Room:
    """Counts the instances that are there and those that are being made."""

    def __init__(self, roster: Roster, operations: Operations) -> None:
        self.roster = roster
        self.operations = operations
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def taken(self, project: str, type_: str) -> AsyncIterator[None]:
        """Accept the making of one within this. Raises Internal, as LXD does, when the project is full."""
        limits = self._limits(project, type_)
        if not limits:
            yield
            return
        async with self._locks[project]:
            for key, limit in limits.items():
                if self._count(project, LIMITS[key]) >= limit:
                    raise Internal(_full(project, LIMITS[key]))
            yield

    def _limits(self, project: str, type_: str) -> dict[str, int]:
        config = self.roster.projects.config(project)
        return {
            key: int(config[key]) for key, counted in LIMITS.items() if config.get(key) and counted in (None, type_)
        }

    def _count(self, project: str, type_: str | None) -> int:
        rows = [row.value for row in self.roster.rows.select(project) if type_ in (None, row.value.type)]
        known = {row.name for row in rows}
        return len(rows) + sum(1 for name in self._being_made(project, type_) if name not in known)

    def _being_made(self, project: str, type_: str | None) -> list[str]:
        """Names that running creations hold; their rows come at the end."""
        found = []
        for row in self.operations.locks.select("instance", project):
            operation = self.operations.holder(("instance", project, row.value.name))
            if operation and operation.saga == "instance.create" and type_ in (None, operation.args.get("type")):
                found.append(row.value.name)
        return found


def _full(project: str, type_: str | None) -> str:
    if type_ is None:
        return f'{PREFIX}Reached maximum number of instances in project "{project}"'
    return f'{PREFIX}Reached maximum number of instances of type "{type_}" in project "{project}"'
