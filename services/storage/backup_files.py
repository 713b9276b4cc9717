"""Files of backups: D/backups/custom/<pool>/<project>_<volume>/<name>, as LXD has them. A file under its own name is whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

from chassis import durable, errors
from services.storage.drivers import VolumeName

WORK = ".new-"
PIECE = 1024 * 1024


class BackupFiles:
    def __init__(self, directory: Path) -> None:
        self.folder = directory / "backups" / "custom"
        self.arriving = directory / "backups" / ".incoming"

    def of(self, pool: str, volume: VolumeName) -> Path:
        return self.folder / pool / volume.folder

    def path(self, pool: str, volume: VolumeName, name: str) -> Path:
        return self.of(pool, volume) / name

    def work(self, pool: str, volume: VolumeName, name: str) -> Path:
        """Where a backup is made; its parent exists afterwards."""
        folder = self.of(pool, volume)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / (WORK + name)

    def forget(self, pool: str, volume: VolumeName, name: str = "") -> None:
        """Remove a backup, or all of a volume. Idempotent."""
        folder = self.of(pool, volume)
        found = [folder / name, folder / (WORK + name)] if name else list(folder.glob("*")) + list(folder.glob(".*"))
        for path in found:
            path.unlink(missing_ok=True)
        self._tidy(folder)

    def rename(self, pool: str, volume: VolumeName, name: str, new_name: str) -> None:
        """Idempotent. For a thread."""
        old, new = self.path(pool, volume, name), self.path(pool, volume, new_name)
        if old.exists():
            durable.rename(old, new)

    def move(self, pool: str, volume: VolumeName, new_pool: str, target: VolumeName) -> None:
        """Follow a volume that got another name or place. Idempotent. For a thread."""
        old, new = self.of(pool, volume), self.of(new_pool, target)
        if old.is_dir():
            new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.rename(old, new)
            self._tidy(old)

    @staticmethod
    def _tidy(folder: Path) -> None:
        """Remove the folder of a volume, and that of its pool, if nothing is in them."""
        for empty in (folder, folder.parent):
            with suppress(OSError):
                empty.rmdir()

    def sweep(self, keep: Iterable[str]) -> None:
        """At the start: make the folders; remove what was half made, and uploads whose token is none of `keep`."""
        for folder in (self.folder, self.arriving):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = set(keep)
        for path in self.folder.glob(f"*/*/{WORK}*"):
            path.unlink(missing_ok=True)
        for path in self.arriving.glob("*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    async def read(self, path: Path) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        finally:
            file.close()

    async def receive(self, token: str, body: AsyncIterator[bytes]) -> Path:
        """An upload in a file. Nothing is left of one that breaks off."""
        self.arriving.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.arriving / token
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            async for piece in body:
                await asyncio.to_thread(_write, file, piece)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise errors.Internal(f"Failed to write the backup: {error.strerror}") from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        return path


def _write(file: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]
