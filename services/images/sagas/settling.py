"""What every way to an image ends with: the files get their name, the image its row, its aliases theirs.

A saga of images is steps that bring the files into an upload (`args["token"]`), then these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from chassis import errors
from chassis.events import lifecycle
from chassis.saga import Context
from chassis.store import Change
from rows.image import IMAGE, IMAGE_ALIAS, Image, ImageAlias
from services.images.parts import Parts
from services.images.shelf import url

Wanted = Sequence[dict[str, str]]
"""Aliases that a request names: `name` and perhaps `description`."""


async def drop_upload(ctx: Context) -> None:
    """Undo of what fills the upload."""
    parts: Parts = ctx.parts
    parts.files.incoming(ctx.args["token"]).drop()


async def place(ctx: Context, fingerprint: str) -> None:
    parts: Parts = ctx.parts
    await asyncio.to_thread(parts.files.place, ctx.args["token"], fingerprint)


async def take_back(ctx: Context, fingerprint: str) -> None:
    """Undo of `place`. The files stay if the image exists, in whichever project."""
    parts: Parts = ctx.parts
    if not parts.shelf.anywhere(fingerprint):
        parts.files.take_back(fingerprint)


def refuse_known_aliases(parts: Parts, project: str, aliases: Wanted) -> None:
    """Raises Conflict for the first that exists."""
    for alias in aliases:
        if parts.shelf.aliases.get(project, alias["name"]) is not None:
            raise errors.Conflict(f"Alias already exists: {alias['name']}")


def register(ctx: Context, change: Change, image: Image) -> None:
    """The row of a new image and the event of it."""
    change.put(IMAGE, image, expect=0)
    location, requestor = url(image.fingerprint, image.project), ctx.operation.requestor
    context = {"type": image.type}
    change.event(lifecycle("image-created", location, project=image.project, context=context, requestor=requestor))


def name(change: Change, image: Image, aliases: Wanted) -> None:
    """The rows of new aliases that lead to the image."""
    for alias in aliases:
        row = ImageAlias(
            project=image.project,
            name=alias["name"],
            target=image.fingerprint,
            description=alias.get("description", ""),
            type=image.type,
        )
        change.put(IMAGE_ALIAS, row, expect=0)


class Progress:
    """Counts what passes and tells of it at most once a second: `tell(bytes, bytes a second)`."""

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self._tell = tell
        self._began = self._told = time.monotonic()
        self._bytes = 0

    async def counting(self, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in data:
            self._bytes += len(piece)
            now = time.monotonic()
            if now - self._told >= 1.0:
                self._told = now
                self._tell(self._bytes, self._bytes / max(now - self._began, 0.001))
            yield piece
