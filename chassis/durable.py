"""What must still be there when the power goes: files, names and trees, written through to the disk before somebody relies on them.

A rename is atomic to everybody who looks, and promises nothing about the disk: after a power cut the new name may lead to an empty file,
or not be there. So: the content first, then the name, then the folder of the name. All of it blocks; call it on a thread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _opened(path: Path, kind: int) -> Iterator[int]:
    """Its descriptor; `kind` is what else open(2) must heed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | kind)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """The content of a file."""
    with _opened(path, os.O_NOFOLLOW) as file:
        os.fsync(file)


def sync_folder(path: Path) -> None:
    """The names in a folder: what was made, renamed or removed there. Nothing happens if the folder is gone itself."""
    with suppress(FileNotFoundError), _opened(path, os.O_DIRECTORY) as folder:
        os.fsync(folder)


def sync_tree(path: Path) -> None:
    """Everything below a folder, with everything else that waits to be written on the same file system (syncfs)."""
    with _opened(path, os.O_DIRECTORY) as folder:
        if _libc.syncfs(folder) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))


def rename(source: Path, target: Path) -> None:
    """Both folders are on the disk when it returns; the content must have been before."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """The whole file at once. Nothing is left beside it if it fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        rename(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
