"""The archive of a custom volume, in LXD's format: backup/index.yaml, backup/volume-snapshots/<name>/ and backup/volume/.

Of a block volume it is backup/volume-snapshots/<name>.img and backup/volume.img. What comes in is hostile: names are checked before
anything is unpacked, and tar unpacks one part at a time into a folder of its own.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from chassis import errors
from chassis.archive import DAMAGED, TARS, clean, format_of, members, opened
from chassis.command import Command, Failed
from services.storage.content import DISK, open_disk
from services.storage.drivers import host
from services.storage.reading import TAR_FLAGS
from services.storage.unpack import FLAGS

INDEX = "backup/index.yaml"
MOST = 4 * 1024 * 1024  # bytes of an index.yaml
LONG = 24 * 3600.0


class IndexVolume(msgspec.Struct, kw_only=True):
    name: str = ""
    description: str = ""
    type: str = "custom"
    content_type: str = "filesystem"
    config: dict[str, str] | None = None


class IndexSnapshot(msgspec.Struct, kw_only=True):
    name: str = ""
    description: str = ""
    config: dict[str, str] | None = None
    expires_at: Any = None


class IndexConfig(msgspec.Struct, kw_only=True):
    volume: IndexVolume | None = None
    volume_snapshots: list[IndexSnapshot] | None = None


class Index(msgspec.Struct, kw_only=True):
    """What is read of an index.yaml."""

    name: str = ""
    type: str = ""
    optimized: bool = False
    snapshots: list[str] | None = None
    config: IndexConfig | None = None


def _replacement(text: str) -> str:
    """A text for the right side of tar's --transform with "," between its parts."""
    if "\n" in text:
        raise errors.BadRequest(f"Invalid name {text!r}")
    return text.replace("\\", "\\\\").replace("&", "\\&").replace(",", "\\,")


def begin(target: Path, index: dict[str, Any]) -> None:
    """A new tar that holds index.yaml."""
    text = yaml.safe_dump(index, sort_keys=False, allow_unicode=True).encode()
    member = tarfile.TarInfo(INDEX)
    member.size, member.mode, member.mtime = len(text), 0o644, int(time.time())
    target.unlink(missing_ok=True)
    with tarfile.open(target, "x", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(text))
    target.chmod(0o600)


async def append(target: Path, source: Path, place: str, content_type: str) -> None:
    """Add a volume's content to the tar, at "backup/volume" or "backup/volume-snapshots/s0"."""
    block = content_type == "block"
    what = DISK if block else "."
    rule = f"s,^{DISK}$,{_replacement(place)}.img,rSh" if block else f"s,^\\.,{_replacement(place)},rSh"
    command = Command("tar", "-C", str(source), *TAR_FLAGS, f"--transform={rule}", "-rf", str(target), "--", what)
    try:
        await command.run(timeout=LONG, codes=(0, 1))
    except Failed as failure:
        raise host.full_or(failure) from None


def read_index(file: Path) -> Index:
    """Looks through the whole archive. Raises Internal "Unsupported compression", BadRequest when it is no backup of a volume."""
    kind = format_of(file)
    if kind not in TARS:
        raise errors.Internal("Unsupported compression")
    text: bytes | None = None
    try:
        with opened(file, kind) as archive:
            for member in members(archive):
                name = clean(member.name)
                if member.islnk():
                    clean(member.linkname)
                if name == INDEX and text is None and member.isreg() and member.size <= MOST:
                    content = archive.extractfile(member)
                    text = content.read() if content else b""
    except ValueError as reason:
        raise errors.BadRequest(f"Invalid backup: it holds {reason}") from None
    except DAMAGED as error:
        raise errors.BadRequest(f"Invalid backup: the archive is damaged or incomplete: {error}") from None
    if text is None:
        raise errors.BadRequest("Backup is missing index.yaml")
    return _parse(text)


def _parse(text: bytes) -> Index:
    try:
        found = msgspec.convert(yaml.safe_load(text), Index)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise errors.BadRequest(f"Invalid backup: index.yaml cannot be read: {error}") from None
    if found.type != "custom" or found.config is None or found.config.volume is None:
        raise errors.BadRequest("Invalid backup: it is not of a custom volume")
    if found.optimized:
        raise errors.BadRequest("Invalid backup: optimized storage is not supported")
    return found


async def unpack(file: Path, place: str, target: Path, content_type: str) -> None:
    """The content at a place of the archive into an empty folder."""
    flags = (
        "--restrict",
        "--force-local",
        "--numeric-owner",
        "--xattrs-include=*",
        "--acls",
        "--sparse",
        *FLAGS[format_of(file)],
    )
    if content_type == "block":
        rule = f"s,^.*$,{DISK},rSh"
        member = f"{place}.img"
    else:
        rule = f"s,^{_pattern(place)}/*,./,rSh"
        member = place
    command = Command("tar", "-C", str(target), *flags, f"--transform={rule}", "-xf", str(file), "--", member)
    try:
        await command.run(timeout=LONG)
    except Failed as failure:
        raise errors.Internal(f"Unpack failed: {host.full_or(failure).text}") from None
    if content_type == "block":
        os.close(open_disk(target))


def _pattern(text: str) -> str:
    """A text for the left side of tar's --transform."""
    _replacement(text)
    return "".join(f"\\{letter}" if letter in ".[]*^$\\," else letter for letter in text)
