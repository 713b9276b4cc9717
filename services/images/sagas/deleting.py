"""Deleting an image: its files, unless another project has the same image, then its row and its aliases."""

from __future__ import annotations

from chassis.events import lifecycle
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.image import IMAGE, IMAGE_ALIAS
from services.images.parts import Parts
from services.images.shelf import url


async def _remove(ctx: Context) -> None:
    parts: Parts = ctx.parts
    fingerprint, project = ctx.args["fingerprint"], ctx.args["project"]
    if all(row.value.project == project for row in parts.shelf.anywhere(fingerprint)):
        parts.files.take_back(fingerprint)


def _finish(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    fingerprint, project = ctx.args["fingerprint"], ctx.args["project"]
    row = parts.shelf.images.get(project, fingerprint)
    if row is None:
        return
    for alias in parts.shelf.aliases_of(row.value):
        change.delete(IMAGE_ALIAS, alias.key, expect=None)
    change.delete(IMAGE, row.key, expect=row.revision)
    requestor = ctx.operation.requestor
    change.event(lifecycle("image-deleted", url(fingerprint, project), project=project, requestor=requestor))


DELETE = Saga("image.delete", steps=(Step("remove", _remove),), description="Deleting image", finish=_finish)
