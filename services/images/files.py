"""The files of images, D/images: `<fingerprint>` and, of a split image, `<fingerprint>.rootfs`, as LXD has them.

What always holds: a file under a fingerprint is whole and of that fingerprint (a unified image's own, or the two files of a split one
one after the other). What is still arriving lies in `.incoming` under the token of its upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

from chassis import durable, errors

PIECE = 1024 * 1024
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def is_fingerprint(text: str) -> bool:
    return _FINGERPRINT.fullmatch(text) is not None


def refuse_beyond(size: int, budget: int | None) -> None:
    """Raises Internal, in LXD's words, for an image larger than its project has room for. Both in bytes."""
    if budget is not None and size > budget:
        raise errors.Internal(f"reached {size} bytes, exceeding quota of {budget}")


class Incoming:
    """An upload that is arriving: one or two files, hashed on the way. Threads write, the loop does not wait for disks."""

    def __init__(self, folder: Path, token: str, budget: int | None = None) -> None:
        """`budget`: how many bytes it may have; None for any number."""
        self.token = token
        self.meta = folder / f"{token}.meta"
        self.rootfs = folder / f"{token}.rootfs"
        self.size = 0
        self.budget = budget
        self._digest = hashlib.sha256()
        self._file: int | None = None

    async def begin(self, file: Path) -> None:
        """The following pieces belong to this file."""
        self.finish()
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    async def add(self, piece: bytes) -> None:
        """Raises Internal when the disk is full, or the budget is used up."""
        refuse_beyond(self.size + len(piece), self.budget)
        try:
            if len(piece) < 64 * 1024:
                self._add(piece)
            else:
                await asyncio.to_thread(self._add, piece)
        except OSError as error:
            raise errors.Internal(f"Failed to write the image: {error.strerror}") from None
        self.size += len(piece)

    def _add(self, piece: bytes) -> None:
        assert self._file is not None
        self._digest.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file, view) :]

    def finish(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def drop(self) -> None:
        self.finish()
        for path in (self.meta, self.rootfs):
            path.unlink(missing_ok=True)

    @property
    def fingerprint(self) -> str:
        return self._digest.hexdigest()

    @property
    def split(self) -> bool:
        return self.rootfs.exists()


class Files:
    """The store of one machine."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "images"
        self.arriving = self.folder / ".incoming"

    def prepare(self, keep: Iterable[str]) -> None:
        """Make the folders; remove uploads whose token is none of `keep`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.arriving.mkdir(mode=0o700, exist_ok=True)
        kept = set(keep)
        for path in self.arriving.iterdir():
            if path.name.partition(".")[0] not in kept:
                path.unlink(missing_ok=True)

    def incoming(self, token: str, budget: int | None = None) -> Incoming:
        return Incoming(self.arriving, token, budget)

    def meta(self, fingerprint: str) -> Path:
        return self.folder / fingerprint

    def rootfs(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.rootfs"

    def place(self, token: str, fingerprint: str) -> None:
        """Give an upload its name; it is on the disk then. Idempotent. For a thread.

        The second file first: whoever finds the first one finds a whole image.
        """
        arrived = self.incoming(token)
        for source, target in ((arrived.rootfs, self.rootfs(fingerprint)), (arrived.meta, self.meta(fingerprint))):
            if source.exists():
                durable.sync_file(source)
                os.replace(source, target)
        durable.sync_folder(self.folder)
        if not self.meta(fingerprint).exists():
            raise errors.Internal("The upload is gone")

    def require(self, fingerprint: str) -> None:
        """Raises Internal if an image's files are gone, before a row says that they are there."""
        if not self.meta(fingerprint).exists():
            raise errors.Internal("The image was deleted meanwhile")

    def take_back(self, fingerprint: str) -> None:
        """Remove an image's files. Idempotent."""
        with suppress(FileNotFoundError):
            self.meta(fingerprint).unlink()
        with suppress(FileNotFoundError):
            self.rootfs(fingerprint).unlink()

    async def read(self, path: Path) -> AsyncIterator[bytes]:
        """The content in pieces. It stays readable to the end, even if the image is deleted meanwhile."""
        file = await asyncio.to_thread(path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        finally:
            file.close()
