"""An image out of a stopped instance or a snapshot: its volume as a compressed tar, with a metadata.yaml of its own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import yaml

from chassis import calls, compression, errors, rpc
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.storage.v1 import volume_pb2
from rows.image import Image
from services.images.files import refuse_beyond
from services.images.inspection import load_plain
from services.images.parts import Parts
from services.images.sagas import settling

VOLUMES = "nubibus.storage.v1.Volumes"
INSTANCES = "nubibus.instances.v1.Instances"


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """`source` is the instance or "instance/snapshot" in `instance_project`; the image goes to `project`."""

    token: str
    project: str
    instance_project: str
    source: str
    type: str = "container"
    architecture: str = "x86_64"
    algorithm: tuple[str, ...] = ("gzip",)
    filename: str = ""
    public: bool = False
    properties: dict[str, str] | None = None
    profiles: tuple[str, ...] = ("default",)
    aliases: tuple[dict[str, str], ...] = ()
    expires_at: datetime | None = None


def _publication(ctx: Context) -> Publication:
    return msgspec.convert(ctx.args, Publication, strict=False)


async def _export(ctx: Context) -> dict[str, Any]:
    parts: Parts = ctx.parts
    wanted = _publication(ctx)
    settling.refuse_known_aliases(parts, wanted.project, wanted.aliases)
    await _refuse_running(wanted)
    file = parts.files.incoming(wanted.token).meta
    ref = volume_pb2.VolumeRef(project=wanted.instance_project, type=wanted.type, name=wanted.source)
    request = volume_pb2.ReadRequest(volume=ref)
    context = calls.as_itself(calls.current())
    async with aclosing(rpc.stream(VOLUMES, "Read", request, context=context)) as chunks:  # type: ignore[type-var]
        first = await anext(aiter(chunks))
        document = _metadata(first.metadata, wanted)
        told = settling.Progress(partial(_tell, ctx))
        try:
            await compression.compress(told.counting(_tar(document, chunks)), wanted.algorithm, file)
        except OSError as error:
            raise errors.Internal(f"Failed to write the image: {error.strerror}") from None
    fingerprint, size = await asyncio.to_thread(_digest, file)
    refuse_beyond(size, parts.room.budget(wanted.project))
    await ctx.update({"fingerprint": fingerprint, "size": str(size)})
    if parts.shelf.images.get(wanted.project, fingerprint) is not None:
        raise errors.Conflict("The image already exists: " + fingerprint)
    texts = {str(key): str(value) for key, value in (document.get("properties") or {}).items()}
    return {"fingerprint": fingerprint, "size": size, "properties": texts}


async def _refuse_running(wanted: Publication) -> None:
    if "/" in wanted.source:
        return
    request = instance_pb2.InstanceRequest(project=wanted.instance_project, name=wanted.source)
    found = await rpc.call(INSTANCES, "GetState", request, context=calls.as_itself(calls.current()))
    if msgspec.json.decode(found.json).get("status") != "Stopped":
        raise errors.BadRequest("Cannot export a running instance as an image")


def _metadata(text: bytes, wanted: Publication) -> dict[str, Any]:
    """The volume's metadata.yaml, with the properties and the expiry that were asked for."""
    document = load_plain(text) if text else None
    if not isinstance(document, dict):
        document = {"architecture": wanted.architecture, "creation_date": int(time.time()), "properties": {}}
    if wanted.properties:
        document["properties"] = wanted.properties
    if wanted.expires_at is not None:
        document["expiry_date"] = int(wanted.expires_at.timestamp())
    return document


async def _tar(document: dict[str, Any], chunks: AsyncIterator[volume_pb2.ReadChunk]) -> AsyncIterator[bytes]:
    text = yaml.safe_dump(document, sort_keys=False).encode()
    member = tarfile.TarInfo("metadata.yaml")
    member.size, member.mode, member.mtime = len(text), 0o644, int(time.time())
    head = io.BytesIO()
    head.write(member.tobuf(tarfile.PAX_FORMAT) + text)
    head.write(bytes(-len(text) % tarfile.BLOCKSIZE))
    yield head.getvalue()
    async for chunk in chunks:
        yield chunk.data


def _tell(ctx: Context, count: int, speed: float) -> None:
    """LXD's figures of a publication."""
    text = f"Exporting: {count / 1e6:.2f}MB ({speed / 1e6:.2f}MB/s)"
    told = {"stage": "create_image_from_container_pack", "processed": str(count), "speed": str(int(speed))}
    ctx.progress({"create_image_from_container_pack_progress": text, "progress": told})


def _digest(file: Path) -> tuple[str, int]:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest(), file.stat().st_size


async def _place(ctx: Context) -> None:
    await settling.place(ctx, ctx.results["export"]["fingerprint"])


async def _take_back(ctx: Context) -> None:
    if found := ctx.results.get("export"):
        await settling.take_back(ctx, found["fingerprint"])


def _finish(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    wanted, made = _publication(ctx), ctx.results["export"]
    settling.refuse_known_aliases(parts, wanted.project, wanted.aliases)
    now = datetime.now(UTC)
    image = Image(
        project=wanted.project,
        fingerprint=made["fingerprint"],
        type=wanted.type,
        architecture=wanted.architecture,
        filename=wanted.filename,
        size=made["size"],
        public=wanted.public,
        properties=made["properties"],
        profiles=wanted.profiles,
        created_at=now,
        expires_at=wanted.expires_at,
        uploaded_at=now,
    )
    settling.register(ctx, change, image)
    settling.name(change, image, wanted.aliases)


PUBLISH = Saga(
    "image.publish",
    steps=(
        Step("export", _export, settling.drop_upload, interruptible=True),
        Step("place", _place, _take_back),
    ),
    description="Downloading image",
    finish=_finish,
)
