"""From an upload that has arrived to an image: look into it, give it its name, write its row."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from chassis import errors
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.image import Image
from services.images.inspection import Inspected, inspect
from services.images.parts import Parts
from services.images.sagas import settling

EPOCH = datetime.fromtimestamp(0, UTC)


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an upload when its body has arrived. `wanted` is the fingerprint that the client expects, "" for any."""

    token: str
    project: str
    fingerprint: str
    size: int
    failure: str = ""  # why the body is no image at all
    wanted: str = ""
    disk: bool = False
    filename: str = ""
    public: bool = False
    properties: dict[str, str] = {}
    profiles: tuple[str, ...] = ("default",)
    aliases: tuple[dict[str, str], ...] = ()


def _upload(ctx: Context) -> Upload:
    return msgspec.convert(ctx.args, Upload)


async def _inspect(ctx: Context) -> dict[str, Any]:
    parts: Parts = ctx.parts
    upload = _upload(ctx)
    if upload.failure:
        raise errors.Internal(upload.failure)
    arrived = parts.files.incoming(upload.token)
    if upload.wanted and upload.wanted != upload.fingerprint:
        raise errors.Internal(f"fingerprints don't match, got {upload.fingerprint} expected {upload.wanted}")
    rootfs = arrived.rootfs if arrived.split else None
    found = await asyncio.to_thread(inspect, arrived.meta, rootfs, disk=upload.disk)
    await ctx.update({"fingerprint": upload.fingerprint, "size": str(upload.size)})
    _refuse_known(ctx, upload)
    return {**msgspec.structs.asdict(_AsRow.of(found)), "split": rootfs is not None}


class _AsRow(msgspec.Struct, frozen=True):
    type: str
    architecture: str
    created: int
    expires: int
    properties: dict[str, str]

    @classmethod
    def of(cls, found: Inspected) -> _AsRow:
        return cls(found.type, found.architecture, found.created, found.expires, found.properties)


def _refuse_known(ctx: Context, upload: Upload) -> None:
    parts: Parts = ctx.parts
    if parts.shelf.images.get(upload.project, upload.fingerprint) is not None:
        raise errors.Conflict("Image with same fingerprint already exists")
    settling.refuse_known_aliases(parts, upload.project, upload.aliases)


async def _place(ctx: Context) -> None:
    await settling.place(ctx, _upload(ctx).fingerprint)


async def _take_back(ctx: Context) -> None:
    await settling.take_back(ctx, _upload(ctx).fingerprint)


def _moment(seconds: int) -> datetime | None:
    """None for what no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _finish(ctx: Context, change: Change) -> None:
    upload = _upload(ctx)
    found: dict[str, Any] = ctx.results["inspect"]
    _refuse_known(ctx, upload)
    image = Image(
        project=upload.project,
        fingerprint=upload.fingerprint,
        type=found["type"],
        architecture=found["architecture"],
        filename=upload.filename,
        size=upload.size,
        split=found["split"],
        public=upload.public,
        properties={**found["properties"], **upload.properties},
        profiles=upload.profiles,
        created_at=_moment(found["created"]),
        expires_at=_moment(found["expires"]) or EPOCH,
        uploaded_at=datetime.now(UTC),
    )
    settling.register(ctx, change, image)
    settling.name(change, image, upload.aliases)


IMPORT = Saga(
    "image.import",
    steps=(
        Step("inspect", _inspect, settling.drop_upload),
        Step("place", _place, _take_back),
    ),
    description="Downloading image",
    finish=_finish,
)


def read_headers(headers: dict[str, str]) -> dict[str, Any]:
    """LXD's X-LXD-* headers of an upload, as fields of Upload. Raises BadRequest for a malformed one."""
    try:
        properties = dict(parse_qsl(headers.get("x-lxd-properties", ""), keep_blank_values=True, strict_parsing=False))
    except ValueError as reason:
        raise errors.BadRequest(f"Invalid header X-LXD-properties: {reason}") from None
    profiles = [text for _, text in parse_qsl(headers.get("x-lxd-profiles", ""))]
    aliases = [{"name": text} for key, text in parse_qsl(headers.get("x-lxd-aliases", "")) if key == "alias"]
    return {
        "wanted": headers.get("x-lxd-fingerprint", ""),
        "public": headers.get("x-lxd-public", "").lower() in ("1", "true", "yes", "on"),
        "filename": headers.get("x-lxd-filename", ""),
        "properties": properties,
        "profiles": tuple(profiles) or ("default",),
        "aliases": tuple(aliases),
    }
