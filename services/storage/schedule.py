"""Snapshots of custom volumes that are made by themselves and end by themselves.

What holds: a moment of a schedule that passed while the service ran leads to one snapshot; one that passed while it did not is not made
up for, as in LXD. A snapshot whose time is over is deleted at the next tick.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from cronsim import CronSim, CronSimError

from chassis import errors
from chassis.saga import Saga
from chassis.sagas import Sagas
from rows.storage import Volume
from services.storage import custom
from services.storage.drivers.cron import expressions
from services.storage.parts import Parts
from services.storage.sagas import backup as backup_sagas
from services.storage.sagas import snapshot as sagas

log = structlog.get_logger(__name__)

TICK = 60.0  # seconds
_DATE = re.compile(r"\{\{\s*creation_date\s*(\|[^}]*)?\}\}")


def is_due(text: str, after: datetime, now: datetime) -> bool:
    """Whether a moment of the schedule lies in (after, now]."""
    try:
        return any(next(CronSim(expression, after)) <= now for expression in expressions(text))
    except (ValueError, CronSimError, StopIteration):
        return False


def name_for(pattern: str, names: set[str], now: datetime) -> str:
    """A snapshot's name by a pattern; of its template language `creation_date` is known."""
    text = _DATE.sub(now.strftime("%Y-%m-%d_%H-%M-%S"), pattern or "snap%d")
    return custom.next_snapshot_name(names, text.replace("/", "-"))


class Schedule:
    """The volumes' schedules and the snapshots' ends."""

    def __init__(self, parts: Parts, verbs: Sagas) -> None:
        self.parts = parts
        self.places = parts.places
        self.sagas = verbs
        self.looked = datetime.now(UTC)

    async def tick(self) -> None:
        now = datetime.now(UTC)
        after, self.looked = self.looked, now
        for volume in list(self.scheduled(after, now)):
            names = {row.value.name for row in self.places.snapshots.select(*_key(volume))}
            name = name_for(volume.config.get("snapshots.pattern", ""), names, now)
            expires = custom.expiry_of(volume.config, now)
            await self._accept(sagas.CREATE, volume, custom.snapshot_args(volume, name, "", expires))
        for snapshot in [row.value for row in self.places.snapshots.select()]:
            found = self.places.volumes.get(snapshot.pool, snapshot.project, snapshot.type, snapshot.volume)
            if found is not None and _is_over(snapshot.expires_at, now):
                args = custom.snapshot_args(found.value, snapshot.name, "", None)
                await self._accept(sagas.DELETE, found.value, args)
        for backup in [row.value for row in self.parts.backup_rows.select()]:
            found = self.places.volumes.get(backup.pool, backup.project, "custom", backup.volume)
            if found is not None and _is_over(backup.expires_at, now):
                args = custom.snapshot_args(found.value, backup.name, "", None)
                await self._accept(backup_sagas.DELETE, found.value, args)

    def scheduled(self, after: datetime, now: datetime) -> Iterator[Volume]:
        """The volumes of which a snapshot is due; none of a project that allows none."""
        for row in self.places.volumes.select():
            text = row.value.config.get("snapshots.schedule", "")
            if row.value.type != "custom" or not self.parts.holders.allows(row.value.project, "snapshot"):
                continue
            if text and now - after < timedelta(hours=1) and is_due(text, after, now):
                yield row.value

    async def _accept(self, verb: Saga, volume: Volume, args: dict[str, Any]) -> None:
        """A busy volume is left for the next tick, or the next moment."""
        lock = custom.lock_of(volume.pool, custom.name_of(volume))
        try:
            await self.sagas.accept(verb, args, project=volume.project, locks=(lock,))
        except errors.Fault as fault:
            log.warning("A scheduled task of a volume must wait", volume=volume.name, task=verb.name, reason=fault.text)


def _is_over(expires: datetime | None, now: datetime) -> bool:
    return expires is not None and expires.year > 1970 and expires <= now


def _key(volume: Volume) -> tuple[str, str, str, str]:
    return volume.pool, volume.project, volume.type, volume.name
