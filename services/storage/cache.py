"""Images as unpacked trees, kept in D/cache/images, for pools that cannot clone: copying a tree takes a tenth of unpacking it.

What always holds: a tree under its fingerprint is whole; no tree is removed while somebody copies it; a tree whose image is gone, or
that nobody used for a day, is removed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from chassis import durable
from services.storage.drivers import host
from services.storage.image_files import ImageSource
from services.storage.unpack import unpack_image

UNUSED = 24 * 3600.0  # seconds
WORK = ".new-"


class Trees:
    """The cache of one machine. `known(fingerprint)` says whether an image still exists."""

    def __init__(self, directory: Path, source: ImageSource, known: Callable[[str], bool]) -> None:
        self.folder = directory / "cache" / "images"
        self.source = source
        self.known = known
        self._locks: dict[str, asyncio.Lock] = {}
        self._used: Counter[str] = Counter()

    @asynccontextmanager
    async def held(self, fingerprint: str) -> AsyncIterator[Path]:
        """The unpacked image; it stays at least until the end of the block."""
        async with self._locks.setdefault(fingerprint, asyncio.Lock()):
            self._used[fingerprint] += 1
            try:
                path = self.folder / fingerprint
                if not path.is_dir():
                    await self._make(fingerprint, path)
            except BaseException:
                self._release(fingerprint)
                raise
        try:
            os.utime(path)
            yield path
        finally:
            self._release(fingerprint)

    def _release(self, fingerprint: str) -> None:
        self._used[fingerprint] -= 1
        if self._used[fingerprint] <= 0:
            del self._used[fingerprint]

    async def _make(self, fingerprint: str, path: Path) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        work = path.with_name(WORK + path.name)
        await host.remove_tree(work)
        work.mkdir(mode=0o700)
        try:
            async with self.source.files(fingerprint) as files:
                await unpack_image(files, work)
            work.chmod(0o700)
            await asyncio.to_thread(durable.sync_tree, work)
            work.rename(path)
        finally:
            await host.remove_tree(work)

    async def sweep(self) -> None:
        """Remove what is half made, unknown or unused. Safe at any time."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            fingerprint = path.name.removeprefix(WORK)
            if self._used[fingerprint]:
                continue
            half, stale = path.name.startswith(WORK), time.time() - path.stat().st_mtime > UNUSED
            if half or stale or not self.known(fingerprint):
                await self.drop(fingerprint)

    async def drop(self, fingerprint: str) -> None:
        """Forget an image."""
        async with self._locks.setdefault(fingerprint, asyncio.Lock()):
            if not self._used[fingerprint]:
                path = self.folder / fingerprint
                await host.remove_tree(path, path.with_name(WORK + path.name))
        if not self._used[fingerprint]:
            self._locks.pop(fingerprint, None)
