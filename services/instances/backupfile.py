"""backup.yaml beside an instance's rootfs: enough to make its rows again from the disk alone (`nubibus recover`), in LXD's shape.

It is written when an instance is made and, by a task of its own, soon after its row has changed. Writing it again is harmless, so what a
crash left out is written at the next change or start.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog
import yaml

from chassis import documents, durable
from chassis.errors import Fault
from rows.profile import Profile
from rows.storage import Pool
from services.instances.document import describe
from services.instances.parts import Parts
from services.instances.roster import Member

NAME = "backup.yaml"
CALM = 0.2  # seconds in which further changes of the same instance are gathered
REST = 2.0  # seconds between two rounds: under load the disk is the log's
log = structlog.get_logger()


def content(parts: Parts, member: Member) -> dict[str, Any]:
    """What the file holds."""
    value = member.value
    volume = member.volume
    pool = parts.roster.pool(volume.pool)
    profiles = parts.roster.profiles_of(value.project, value.profiles)
    return {
        "container": describe(member, parts.roster.live(value.project, value.name)),
        "pool": _pool(pool) if pool else None,
        "profiles": [_profile(profile) for profile in profiles],
        "volume": {
            "config": {},
            "description": "",
            "name": value.name,
            "type": value.type,
            "used_by": [],
            "location": value.member,
            "content_type": "filesystem",
            "project": value.project,
            "created_at": documents.timestamp(value.created_at),
        },
    }


def _pool(pool: Pool) -> dict[str, Any]:
    return {"config": pool.config, "description": pool.description, "name": pool.name, "driver": pool.driver,
            "used_by": [], "status": pool.status, "locations": ["none"]}  # fmt: skip


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "config": profile.config,
        "description": profile.description,
        "devices": profile.devices,
        "name": profile.name,
        "used_by": [],
    }


async def write(parts: Parts, member: Member, volume: Path) -> None:
    text = yaml.dump(content(parts, member), Dumper=_DUMPER, sort_keys=False, default_flow_style=False)
    await asyncio.to_thread(_write, volume, text)


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _write(volume: Path, text: str) -> None:
    """Replace the file as a whole; the folder belongs to this server, the instance sees only rootfs/ below it."""
    durable.replace(volume / NAME, text.encode(), mode=0o400)


class BackupFiles:
    """Keeps the files as the rows are."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.changed: set[tuple[str, ...]] = set()
        self.woken = asyncio.Event()
        parts.roster.rows.watch(self._note)

    def _note(self, key: tuple[str, ...], old: object, new: object) -> None:
        if new is not None and old is not None:
            self.changed.add(key)
            self.woken.set()

    async def keep(self) -> None:
        while True:
            await self.woken.wait()
            await asyncio.sleep(CALM)
            self.woken.clear()
            changed, self.changed = self.changed, set()
            for key in changed:
                await self._write(key)
            await asyncio.sleep(REST)

    async def _write(self, key: tuple[str, ...]) -> None:
        member = self.parts.roster.get(*key)
        if member is None:
            return
        try:
            async with self.parts.turn(member.key):
                await write(self.parts, member, await self.parts.volumes.mount(member.volume))
        except (Fault, OSError, ValueError) as error:
            log.warning("backup.yaml could not be written", instance=key, error=str(error))
