"""Refreshing images: when somebody asks, and by itself every `images.auto_update_interval` hours."""

from __future__ import annotations

import time
import uuid

import structlog

from chassis import errors
from chassis.operations import Accepted
from chassis.sagas import Sagas
from rows.image import Image
from services.images.parts import Parts
from services.images.sagas import refreshing
from services.images.shelf import url

log = structlog.get_logger(__name__)

LOOK = 600.0  # seconds between looks at the clock
INTERVAL = 6  # hours


async def refresh(sagas: Sagas, image: Image) -> Accepted:
    """Accept it. Conflict while something else is done to the image."""
    return await sagas.accept(
        refreshing.REFRESH,
        {"project": image.project, "fingerprint": image.fingerprint, "token": uuid.uuid4().hex},
        project=image.project,
        resources={"images": [url(image.fingerprint)]},
        locks=(("image", "", image.fingerprint),),
    )


class AutoUpdate:
    """Refreshes what is marked with auto_update."""

    def __init__(self, parts: Parts, sagas: Sagas) -> None:
        self.parts = parts
        self.sagas = sagas
        self._last = time.monotonic()

    @property
    def interval(self) -> float:
        """Seconds; 0 = never."""
        text = self.parts.server_config("images.auto_update_interval")
        return (int(text) if text.isdigit() else INTERVAL) * 3600.0

    async def look(self) -> None:
        if not self.interval or time.monotonic() - self._last < self.interval:
            return
        self._last = time.monotonic()
        for image in [row.value for row in self.parts.shelf.images.select()]:
            if image.auto_update and image.update_source:
                try:
                    await refresh(self.sagas, image)
                except errors.Fault as fault:
                    log.warning("An image cannot be refreshed now", image=image.fingerprint, reason=fault.text)
