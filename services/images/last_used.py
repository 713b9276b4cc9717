"""When images were last used. Noted in memory at once and written some moments later, so that no creation waits for it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from chassis import errors
from chassis.change import Change
from chassis.converge import Converge
from chassis.store import Store
from rows.image import IMAGE, Image
from services.images.shelf import Shelf

SETTLE = 0.2  # seconds


class LastUsed:
    def __init__(self, store: Store, shelf: Shelf) -> None:
        self._store = store
        self._shelf = shelf
        self._noted: dict[tuple[str, str], datetime] = {}
        self.writing = Converge("image last use", self._write, every=3600.0, settle=SETTLE)

    def of(self, image: Image) -> datetime | None:
        return self._noted.get((image.project, image.fingerprint), image.last_used_at)

    def note(self, project: str, fingerprint: str) -> None:
        self._noted[project, fingerprint] = datetime.now(UTC)
        self.writing.wake()

    async def flush(self) -> None:
        """At the end of the service."""
        if self._noted:
            await self._write()

    async def _write(self) -> None:
        for key, moment in list(self._noted.items()):
            row = self._shelf.images.get(*key)
            if row is not None:
                changed = msgspec.structs.replace(row.value, last_used_at=moment)
                try:
                    await self._store.commit(Change().put(IMAGE, changed, expect=row.revision))
                except errors.Conflict:
                    self.writing.wake()
                    continue
            if self._noted.get(key) == moment:
                del self._noted[key]
