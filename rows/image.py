"""Images and their aliases. Owner: images."""

from __future__ import annotations

from datetime import datetime

import msgspec

from chassis.store import Kind


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image. Its bytes lie in the store of the images service under the fingerprint (sha256, hex)."""

    project: str
    fingerprint: str
    type: str = "container"
    architecture: str = "x86_64"
    filename: str = ""
    size: int = 0
    split: bool = False
    public: bool = False
    auto_update: bool = False
    cached: bool = False
    properties: dict[str, str] = {}
    profiles: tuple[str, ...] = ("default",)
    update_source: dict[str, str] | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    uploaded_at: datetime | None = None
    last_used_at: datetime | None = None


class ImageAlias(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    name: str
    target: str
    description: str = ""
    type: str = "container"


IMAGE = Kind("images_image", Image, ("project", "fingerprint"))
IMAGE_ALIAS = Kind("images_alias", ImageAlias, ("project", "name"))
