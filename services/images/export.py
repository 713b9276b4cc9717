"""An image as a download: a unified one as its file, a split one as a multipart form with both."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

from chassis import errors
from chassis.archive import format_of
from gen.nubibus.rest.v1 import rest_pb2
from rows.image import Image
from services.images.files import Files


def _suffix(path: Path) -> str:
    """What the file would be called behind its dot."""
    kind = format_of(path)
    return "." + {"tar.bz2": "tar.bz2"}.get(kind, kind)


async def export(files: Files, image: Image) -> AsyncIterator[rest_pb2.Chunk]:
    """Chunks of the raw body, the first with its headers. Raises NotFound when the files are not on this machine."""
    meta = files.meta(image.fingerprint)
    if not meta.exists():
        raise errors.NotFound("Image not found")
    pieces = _form(files, image) if image.split else _file(files, image, meta)
    async for chunk in pieces:
        yield chunk


async def _file(files: Files, image: Image, meta: Path) -> AsyncIterator[rest_pb2.Chunk]:
    found = meta.stat()
    headers = {
        "content-type": "application/octet-stream",
        "content-disposition": f"inline;filename={image.fingerprint}{_suffix(meta)}",
        "content-length": str(found.st_size),
        "last-modified": formatdate(found.st_mtime, usegmt=True),
    }
    yield rest_pb2.Chunk(head=rest_pb2.Document(raw=True, headers=headers))
    async for piece in files.read(meta):
        yield rest_pb2.Chunk(data=piece)


def _head(boundary: str, name: str, filename: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()


async def _form(files: Files, image: Image) -> AsyncIterator[rest_pb2.Chunk]:
    boundary = secrets.token_hex(30)
    meta, rootfs = files.meta(image.fingerprint), files.rootfs(image.fingerprint)
    disk = image.type == "virtual-machine"
    heads = (
        _head(boundary, "metadata", f"meta-{image.fingerprint}{_suffix(meta)}"),
        b"\r\n" + _head(boundary, "rootfs.img" if disk else "rootfs", f"{image.fingerprint}{_suffix(rootfs)}"),
    )
    end = f"\r\n--{boundary}--\r\n".encode()
    length = meta.stat().st_size + rootfs.stat().st_size + sum(map(len, heads)) + len(end)
    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "content-length": str(length)}
    yield rest_pb2.Chunk(head=rest_pb2.Document(raw=True, headers=headers))
    for head, path in zip(heads, (meta, rootfs), strict=True):
        yield rest_pb2.Chunk(data=head)
        async for piece in files.read(path):
            yield rest_pb2.Chunk(data=piece)
    yield rest_pb2.Chunk(data=end)
