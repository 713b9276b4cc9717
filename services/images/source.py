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

INSTANCES = ("instance", "container", "virtual-machine", "snapshot")
REMOTE = ("image", "url")


class Source(msgspec.Struct):
    type: str = ""
    name: str = ""
    project: str = ""


class ImagesPost(msgspec.Struct):
    source: Source | None = None
    aliases: tuple[dict[str, str], ...] | None = None
    properties: dict[str, str] | None = None
    profiles: tuple[str, ...] | None = None
    public: bool = False
    filename: str = ""
    compression_algorithm: str = ""
    expires_at: datetime | None = None


def read_source(body: bytes) -> ImagesPost:
    """Raises BadRequest, Internal (LXD's answer to a source of no known type), NotImplementedHere."""
    found: ImagesPost = read_body(body, ImagesPost)
    kind = found.source.type if found.source else ""
    if kind in REMOTE:
        raise errors.NotImplementedHere(f"Adding an image from a source of type {quote(kind)} is not supported yet")
    if kind not in INSTANCES:
        raise errors.Internal("Invalid images JSON")
    return found


def publication(found: ImagesPost, project: str, image_project: str, parts: Parts, default: str) -> Publication:
    """What is to be published. `default` is the compression of the server's configuration."""
    assert found.source is not None
    if not found.source.name:
        raise errors.BadRequest("No source provided")
    algorithm = compression.parse(found.compression_algorithm or default or compression.DEFAULT)
    compression.refuse_missing(algorithm)
    aliases = found.aliases or ()
    if any(not alias.get("name") for alias in aliases):
        raise errors.BadRequest("name and target are required")
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


def publication_args(wanted: Publication) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(wanted)
    return found
