"""Archives of strangers: what format a file has, and a look through a tar without unpacking it.

Nothing here trusts the archive: what is read into memory is bounded, whatever its headers claim.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import zstandard

from chassis import errors

# Offset, first bytes, name; the name is also what a file of the format is called behind its dot.
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "tar.gz"),
    (0, b"BZh", "tar.bz2"),
    (0, b"\xfd7zXZ\x00", "tar.xz"),
    (0, b"\x5d\x00\x00", "tar.lzma"),
    (0, b"\x28\xb5\x2f\xfd", "tar.zst"),
    (0, b"hsqs", "squashfs"),
    (0, b"QFI\xfb", "qcow2"),
    (257, b"ustar", "tar"),
)
TARS = frozenset({"tar", "tar.gz", "tar.bz2", "tar.xz", "tar.lzma", "tar.zst"})
HEADER = 1024 * 1024  # bytes that one header of a tar may take (long names, attributes)
BLOCK = 1024 * 1024
WINDOW = 128 * 1024 * 1024  # bytes that a decompressor may need
_LONG = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
DAMAGED = (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError, zstandard.ZstdError)


def format_of(file: Path) -> str:
    """A name of MAGIC. Raises Internal in LXD's words for an empty file and for anything else."""
    with file.open("rb") as opened:
        head = opened.read(512)
    if not head:
        raise errors.Internal("EOF")
    for offset, magic, name in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    raise errors.Internal("Unsupported compression")


class _Member(tarfile.TarInfo):
    """A member whose headers are bounded. An archive without its end mark is broken off, wherever that happened."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            raise tarfile.ReadError("unexpected end of data") from None

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _LONG and self.size > HEADER:
            raise tarfile.HeaderError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _zstd(raw: IO[bytes]) -> Any:
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(raw, read_across_frames=True)
    return io.BufferedReader(cast("io.RawIOBase", reader), BLOCK)


_DECOMPRESSORS: dict[str, Callable[[IO[bytes]], Any]] = {
    "tar.gz": lambda raw: gzip.GzipFile(fileobj=raw),
    "tar.bz2": bz2.BZ2File,
    "tar.xz": partial(lzma.LZMAFile, format=lzma.FORMAT_XZ),
    "tar.lzma": partial(lzma.LZMAFile, format=lzma.FORMAT_ALONE),
    "tar.zst": _zstd,
}


@contextmanager
def decompressed(file: Path, kind: str) -> Iterator[IO[bytes]]:
    """The tar inside. Reading raises one of DAMAGED when the file is broken off or damaged."""
    with file.open("rb") as raw:
        if kind == "tar":
            yield raw
            return
        with _DECOMPRESSORS[kind](raw) as stream:
            yield stream


@contextmanager
def opened(file: Path, kind: str) -> Iterator[tarfile.TarFile]:
    """A tar to be read once from its beginning to its end."""
    with decompressed(file, kind) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member, bufsize=BLOCK, errorlevel=1) as archive:
            yield archive


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member in turn; none is kept, however many there are."""
    while (member := archive.next()) is not None:
        yield member
        archive.members.clear()  # type: ignore[attr-defined]  # documented by nobody, and what would grow with the archive


def clean(name: str) -> str:
    """A member's name as tar unpacks it: relative, without "./" and double slashes. Raises ValueError if it leads out of the tree."""
    path = PurePosixPath(name.lstrip("/") or ".")
    if ".." in path.parts:
        raise ValueError(f"the path {name!r}, which leads out of the tree")
    return "" if str(path) == "." else str(path)
