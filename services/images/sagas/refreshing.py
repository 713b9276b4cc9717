"""An image fetched anew from the server that it came from, by the alias that it came by: the new one takes the place of the old one.

The files of the old one are removed when its row is gone (services/images/__main__.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from chassis import errors
from chassis.events import lifecycle
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.image import IMAGE, IMAGE_ALIAS, Image
from services.images import remote
from services.images.parts import Parts
from services.images.sagas import settling
from services.images.sagas.pulling import fetch, fingerprint_of
from services.images.shelf import Found, url


def _old(ctx: Context) -> Found:
    parts: Parts = ctx.parts
    row = parts.shelf.images.get(ctx.args["project"], ctx.args["fingerprint"])
    if row is None:
        raise errors.NotFound("Image not found")
    return row


async def _download(ctx: Context) -> dict[str, Any]:
    parts: Parts = ctx.parts
    source = _old(ctx).value.update_source
    if not source or source.get("protocol") != "lxd" or not source.get("alias"):
        raise errors.NotFound("Image source not found")
    other = remote.Remote(source["server"], source.get("certificate", ""))
    shown = await remote.find(other, "", source["alias"])
    fingerprint = fingerprint_of(shown, other.server)
    refreshed = fingerprint != ctx.args["fingerprint"]
    await ctx.update({"refreshed": refreshed})
    if not refreshed:
        return {"refreshed": False}
    if parts.shelf.images.get(ctx.args["project"], fingerprint) is not None:
        return {"refreshed": True, "known": True, "fingerprint": fingerprint}
    return {"refreshed": True, "known": False, **await fetch(ctx, other, shown, ctx.args["token"], ctx.args["project"])}


async def _place(ctx: Context) -> None:
    found = ctx.results["download"]
    if found["refreshed"] and not found["known"]:
        await settling.place(ctx, found["fingerprint"])


async def _take_back(ctx: Context) -> None:
    found = ctx.results.get("download") or {}
    if found.get("refreshed"):
        await settling.take_back(ctx, found["fingerprint"])


def _finish(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    found = ctx.results["download"]
    if not found["refreshed"]:
        return
    old = _old(ctx)
    if not found["known"]:
        parts.files.require(found["fingerprint"])
        change.put(IMAGE, _renewed(old.value, found), expect=0)
    for alias in parts.shelf.aliases_of(old.value):
        change.put(
            IMAGE_ALIAS, msgspec.structs.replace(alias.value, target=found["fingerprint"]), expect=alias.revision
        )
    change.delete(IMAGE, old.key, expect=old.revision)
    location = url(found["fingerprint"], old.value.project)
    requestor = ctx.operation.requestor
    change.event(lifecycle("image-refreshed", location, project=old.value.project, requestor=requestor))


def _renewed(old: Image, found: dict[str, Any]) -> Image:
    """The new image with what the user has decided about the old one."""
    return msgspec.structs.replace(
        old,
        fingerprint=found["fingerprint"],
        size=found["size"],
        split=found["split"],
        type=found["type"],
        architecture=found["architecture"],
        filename=found["filename"],
        properties=found["properties"],
        created_at=datetime.fromtimestamp(found["created"], UTC),
        uploaded_at=datetime.now(UTC),
    )


REFRESH = Saga(
    "image.refresh",
    steps=(
        Step("download", _download, settling.drop_upload, interruptible=True),
        Step("place", _place, _take_back),
    ),
    description="Refreshing image",
    finish=_finish,
)
