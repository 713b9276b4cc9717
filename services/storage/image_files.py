"""Where the files of an image come from: the images service's store if it is on this machine, else its `Fetch` stream.

Fetched files live only as long as they are unpacked, in D/cache/fetch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from chassis import errors, rpc
from gen.nubibus.images.v1 import image_pb2
from services.storage.drivers import host
from services.storage.unpack import ImageFiles

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class ImageSource:
    """The images as this machine can get them."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "images"
        self.fetched = directory / "cache" / "fetch"

    def sweep(self) -> list[Path]:
        """What a killed process left; call once at the start and remove it."""
        return list(self.fetched.iterdir()) if self.fetched.is_dir() else []

    @asynccontextmanager
    async def files(self, fingerprint: str) -> AsyncIterator[ImageFiles]:
        """Raises NotFound, Unavailable."""
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise errors.NotFound("Image not found")
        near = self._near(fingerprint)
        if near is not None:
            yield near
            return
        folder = self.fetched / fingerprint
        await host.remove_tree(folder)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield await self._fetch(fingerprint, folder)
        finally:
            await host.remove_tree(folder)

    def _near(self, fingerprint: str) -> ImageFiles | None:
        """A row is written after its files are whole, so files under their own names are whole."""
        meta, rootfs = self.store / fingerprint, self.store / f"{fingerprint}.rootfs"
        if meta.is_symlink() or rootfs.is_symlink() or not meta.is_file():
            return None
        return ImageFiles(meta, rootfs if rootfs.is_file() else None)

    async def _fetch(self, fingerprint: str, folder: Path) -> ImageFiles:
        digest = hashlib.sha256()
        request = image_pb2.FetchRequest(fingerprint=fingerprint)
        opened: dict[str, BinaryIO] = {}
        current: BinaryIO | None = None
        try:
            async with aclosing(rpc.stream("nubibus.images.v1.Images", "Fetch", request)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    if chunk.file in ("meta", "rootfs") and chunk.file not in opened:
                        current = opened[chunk.file] = (folder / chunk.file).open("xb")
                    if current is not None:
                        current.write(chunk.data)
                        digest.update(chunk.data)
        finally:
            for file in opened.values():
                file.close()
        if digest.hexdigest() != fingerprint or "meta" not in opened:
            raise errors.Unavailable("The image arrived incomplete from the images service")
        return ImageFiles(folder / "meta", folder / "rootfs" if "rootfs" in opened else None)
