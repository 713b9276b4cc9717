"""An image from another LXD server: fetched, compared with its fingerprint, looked into, and given its name."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from chassis import errors
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.image import Image
from services.images import remote
from services.images.files import is_fingerprint
from services.images.inspection import inspect
from services.images.parts import Parts
from services.images.sagas import settling
from services.images.sagas.importing import EPOCH
from services.images.upload import receive


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """`source_project` and `secret` are the other server's."""

    token: str
    project: str
    server: str
    certificate: str = ""
    source_project: str = ""
    secret: str = ""
    fingerprint: str = ""
    alias: str = ""
    public: bool = False
    auto_update: bool = False
    filename: str = ""
    properties: dict[str, str] = {}
    profiles: tuple[str, ...] = ("default",)
    aliases: tuple[dict[str, str], ...] = ()


def _pull(ctx: Context) -> Pull:
    return msgspec.convert(ctx.args, Pull)


async def _download(ctx: Context) -> dict[str, Any]:
    parts: Parts = ctx.parts
    wanted = _pull(ctx)
    settling.refuse_known_aliases(parts, wanted.project, wanted.aliases)
    source = remote.Remote(wanted.server, wanted.certificate, wanted.source_project, wanted.secret)
    shown = await remote.find(source, wanted.fingerprint, wanted.alias)
    known = parts.shelf.images.get(wanted.project, fingerprint_of(shown, wanted.server))
    if known is not None:
        await ctx.update({"fingerprint": known.value.fingerprint, "size": str(known.value.size)})
        return {"known": True, "fingerprint": known.value.fingerprint}
    found = await fetch(ctx, source, shown, wanted.token, wanted.project)
    await ctx.update({"fingerprint": found["fingerprint"], "size": str(found["size"])})
    return {"known": False, **found}


def fingerprint_of(shown: dict[str, Any], server: str) -> str:
    """Of an image as the other server shows it."""
    fingerprint = str(shown.get("fingerprint", ""))
    if not is_fingerprint(fingerprint):
        raise errors.Internal(f'"{server}" does not answer as an LXD server does')
    return fingerprint


async def fetch(ctx: Context, source: remote.Remote, shown: dict[str, Any], token: str, project: str) -> dict[str, Any]:
    """The files, for that project, into the upload of that token; what is known of them."""
    parts: Parts = ctx.parts
    fingerprint = fingerprint_of(shown, source.server)
    incoming = parts.files.incoming(token, budget=parts.room.budget(project))
    incoming.drop()
    async with remote.download(source, fingerprint) as answer:
        told = settling.Progress(partial(_tell, ctx, int(shown.get("size") or 0)))
        content_type = answer.headers.get("content-type", "application/octet-stream")
        received = await receive(told.counting(answer.body), content_type, incoming)
    if received.failure:
        raise errors.Internal(received.failure)
    if incoming.fingerprint != fingerprint:
        raise errors.Internal(f"Hash does not match: expected {fingerprint}, got {incoming.fingerprint}")
    rootfs = incoming.rootfs if incoming.split else None
    found = await asyncio.to_thread(inspect, incoming.meta, rootfs, disk=received.disk)
    return {
        "fingerprint": fingerprint,
        "size": incoming.size,
        "split": rootfs is not None,
        "type": found.type,
        "architecture": found.architecture,
        "created": found.created,
        "expires": found.expires,
        "filename": str(shown.get("filename") or ""),
        "properties": {str(k): str(v) for k, v in (shown.get("properties") or found.properties).items()},
    }


def _tell(ctx: Context, size: int, count: int, speed: float) -> None:
    """LXD's figures of a download."""
    percent = min(100, count * 100 // size) if size else 0
    ctx.progress({"download_progress": f"{percent}% ({speed / 1e6:.2f}MB/s)"})


async def _place(ctx: Context) -> None:
    found = ctx.results["download"]
    if not found["known"]:
        await settling.place(ctx, found["fingerprint"])


async def _take_back(ctx: Context) -> None:
    if found := ctx.results.get("download"):
        await settling.take_back(ctx, found["fingerprint"])


def _finish(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    wanted, found = _pull(ctx), ctx.results["download"]
    settling.refuse_known_aliases(parts, wanted.project, wanted.aliases)
    known = parts.shelf.images.get(wanted.project, found["fingerprint"])
    image = known.value if known is not None else _image(wanted, found)
    if known is None:
        parts.files.require(image.fingerprint)
        settling.register(ctx, change, image)
    settling.name(change, image, wanted.aliases)


def _image(wanted: Pull, found: dict[str, Any]) -> Image:
    source = {"alias": wanted.alias, "certificate": wanted.certificate, "protocol": "lxd", "server": wanted.server}
    return Image(
        project=wanted.project,
        fingerprint=found["fingerprint"],
        type=found["type"],
        architecture=found["architecture"],
        filename=wanted.filename or found["filename"],
        size=found["size"],
        split=found["split"],
        public=wanted.public,
        auto_update=wanted.auto_update,
        properties={**found["properties"], **wanted.properties},
        profiles=wanted.profiles,
        update_source={**source, "image_type": found["type"]} if wanted.alias else None,
        created_at=datetime.fromtimestamp(found["created"], UTC),
        expires_at=datetime.fromtimestamp(found["expires"], UTC) if found["expires"] else EPOCH,
        uploaded_at=datetime.now(UTC),
    )


PULL = Saga(
    "image.pull",
    steps=(
        Step("download", _download, settling.drop_upload, interruptible=True),
        Step("place", _place, _take_back),
    ),
    description="Downloading image",
    finish=_finish,
)
