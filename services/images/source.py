"""POST /1.0/images with JSON: where to get an image from. Checked here, done by a saga."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import msgspec

from chassis import compression, errors
from chassis.documents import read_body
from chassis.key_types import quote
from chassis.kinds import Versioned
from rows.instance import Instance
from services.images.parts import Parts
from services.images.sagas.publishing import Publication
from services.images.sagas.pulling import Pull

INSTANCES = ("instance", "container", "virtual-machine", "snapshot")


class Source(msgspec.Struct):
    type: str = ""
    name: str = ""
    project: str = ""
    mode: str = ""
    server: str = ""
    protocol: str = ""
    certificate: str = ""
    fingerprint: str = ""
    alias: str = ""
    secret: str = ""
    image_type: str = ""


class ImagesPost(msgspec.Struct):
    source: Source | None = None
    aliases: tuple[dict[str, str], ...] | None = None
    properties: dict[str, str] | None = None
    profiles: tuple[str, ...] | None = None
    public: bool = False
    auto_update: bool = False
    filename: str = ""
    compression_algorithm: str = ""
    expires_at: datetime | None = None


def read_source(body: bytes) -> ImagesPost:
    """Raises BadRequest, Internal (LXD's answer to a source of no known type), NotImplementedHere for what cannot be done yet."""
    found: ImagesPost = read_body(body, ImagesPost)
    kind = found.source.type if found.source else ""
    if kind not in (*INSTANCES, "image", "url"):
        raise errors.Internal("Invalid images JSON")
    assert found.source is not None
    if kind == "url" or found.source.mode == "push" or found.source.protocol not in ("", "lxd"):
        what = found.source.protocol or found.source.mode or kind
        raise errors.NotImplementedHere(f"Adding an image by {quote(what)} is not supported yet")
    return found


def pull(found: ImagesPost, image_project: str) -> Pull:
    """What is to be fetched from another server."""
    source = found.source
    assert source is not None
    if not source.fingerprint and not source.alias:
        raise errors.BadRequest("must specify one of alias or fingerprint for init from image")
    if not source.server.startswith("https://"):
        raise errors.BadRequest(f"Invalid server {quote(source.server)}: must be https://HOST[:PORT]")
    return Pull(
        token=uuid.uuid4().hex,
        project=image_project,
        server=source.server,
        certificate=source.certificate,
        source_project=source.project,
        secret=source.secret,
        fingerprint=source.fingerprint,
        alias=source.alias,
        public=found.public,
        auto_update=found.auto_update,
        filename=found.filename,
        properties=found.properties or {},
        profiles=found.profiles if found.profiles is not None else ("default",),
        aliases=_named(found),
    )


def _named(found: ImagesPost) -> tuple[dict[str, str], ...]:
    aliases = found.aliases or ()
    if any(not alias.get("name") for alias in aliases):
        raise errors.BadRequest("name and target are required")
    return aliases


def publication(found: ImagesPost, project: str, image_project: str, parts: Parts) -> Publication:
    """What is to be published."""
    assert found.source is not None
    if not found.source.name:
        raise errors.BadRequest("No source provided")
    algorithm = compression.parse(found.compression_algorithm or parts.compression(project))
    compression.refuse_missing(algorithm)
    aliases = _named(found)
    instance = instance_of(found.source.name, project, parts).value
    return Publication(
        token=uuid.uuid4().hex,
        project=image_project,
        instance_project=project,
        source=found.source.name,
        type=instance.type,
        architecture=instance.architecture,
        algorithm=algorithm,
        filename=found.filename,
        public=found.public,
        properties=found.properties,
        profiles=found.profiles if found.profiles is not None else ("default",),
        aliases=aliases,
        expires_at=found.expires_at,
    )


def instance_of(source: str, project: str, parts: Parts) -> Versioned[Instance]:
    """The instance that a source names, or that its snapshot is of. Raises NotFound in LXD's words."""
    name, _, snapshot = source.partition("/")
    row = parts.instances.get(project, name)
    if row is None or (snapshot and parts.snapshots.get(project, name, snapshot) is None):
        raise errors.NotFound("Instance not found")
    return row


def as_args(wanted: Publication | Pull) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(wanted)
    return found
