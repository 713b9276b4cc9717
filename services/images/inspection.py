"""What an image says of itself, read from files that nobody has looked at yet.

`inspect` blocks (it decompresses): call it in a thread. It reads the archives to their end, so what is broken off or leads out of its
tree is refused when it is imported, not when an instance is made of it.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chassis import errors, plain_yaml
from chassis.archive import DAMAGED, TARS, clean, format_of, members, opened

METADATA = 1024 * 1024  # bytes that metadata.yaml may have
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "i686": ("i386", "i586", "386", "x86", "generic_32"),
    "x86_64": ("amd64", "generic_64"),
    "armv7l": ("armel", "armhf", "arm", "armhfp", "armv7a_hardfp", "armv7", "armv7a_vfpv3_hardfp"),
    "aarch64": ("arm64", "arm64_generic"),
    "ppc": ("powerpc",),
    "ppc64": ("powerpc64",),
    "ppc64le": ("ppc64el",),
    "s390x": (),
    "mips": (),
    "mips64": (),
    "riscv32": (),
    "riscv64": (),
}


@dataclass(frozen=True, slots=True)
class Inspected:
    """`type` container or virtual-machine; times in seconds since 1970, `expires` 0 = never."""

    type: str
    architecture: str
    created: int
    expires: int
    properties: dict[str, str] = field(default_factory=dict)


@dataclass
class _Seen:
    """What a look through a tar has found."""

    metadata: bytes | None = None
    disk: bool = False  # rootfs.img: a virtual machine's
    rootfs: bool = False


def inspect(meta: Path, rootfs: Path | None, *, disk: bool = False) -> Inspected:
    """`disk`: the second file was sent as a virtual machine's. Raises Internal in LXD's words."""
    kind = format_of(meta)
    if kind not in TARS:
        raise errors.Internal("Unsupported compression")
    seen = look_through(meta, kind)
    if seen.metadata is None:
        raise errors.Internal("Metadata tarball is missing metadata.yaml")
    found = read_metadata(seen.metadata)
    if rootfs is not None:
        disk = _check_rootfs(rootfs) or disk
    return Inspected("virtual-machine" if disk or seen.disk else "container", *found)


def look_through(file: Path, kind: str) -> _Seen:
    """To the end of a tar. Raises Internal for what is damaged or would leave its tree."""
    seen = _Seen()
    try:
        with opened(file, kind) as archive:
            for member in members(archive):
                name = clean(member.name)
                if member.islnk():
                    clean(member.linkname)
                _note(seen, archive, member, name)
    except ValueError as reason:
        raise errors.Internal(f"Invalid image: it holds {reason}") from None
    except DAMAGED as error:
        raise errors.Internal(f"Invalid image: the archive is damaged or incomplete: {error}") from None
    return seen


def _note(seen: _Seen, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
    if name == "metadata.yaml" and seen.metadata is None:
        if not member.isreg():
            raise errors.Internal("Invalid image: metadata.yaml is not a regular file")
        if member.size > METADATA:
            raise errors.Internal(f"Invalid image: metadata.yaml has {member.size} bytes, more than {METADATA}")
        content = archive.extractfile(member)
        seen.metadata = content.read() if content else b""
    elif name == "rootfs.img":
        seen.disk = True
    elif name in ("rootfs", "templates") and not member.isdir():
        raise errors.Internal(f"Invalid image: {name} is not a directory")


def _check_rootfs(rootfs: Path) -> bool:
    """Whether it is a disk of a virtual machine."""
    kind = format_of(rootfs)
    if kind == "qcow2":
        return True
    if kind == "squashfs":
        check_squashfs(rootfs)
    else:
        look_through(rootfs, kind)
    return False


def check_squashfs(file: Path) -> None:
    """Raises Internal when it is shorter than it says itself."""
    with file.open("rb") as opened_file:
        head = opened_file.read(96)
    if len(head) < 96 or int.from_bytes(head[40:48], "little") > file.stat().st_size:
        raise errors.Internal("Invalid image: the squashfs file is incomplete")


def load_plain(text: bytes) -> Any:
    """Raises Internal in the form of LXD's words."""
    try:
        return plain_yaml.load(text)
    except ValueError as error:
        raise errors.Internal(f"yaml: {error}") from None


def read_metadata(text: bytes) -> tuple[str, int, int, dict[str, str]]:
    """Architecture, creation, expiry and properties of a metadata.yaml."""
    document = load_plain(text)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise errors.Internal("yaml: unmarshal errors: metadata.yaml is not a map")
    architecture = _architecture(document.get("architecture"))
    created = _number(document, "creation_date")
    if created == 0:
        raise errors.Internal("Missing creation date")
    if not isinstance(document.get("templates") or {}, dict):
        raise errors.Internal("yaml: unmarshal errors: templates is not a map")
    properties = document.get("properties") or {}
    if not isinstance(properties, dict):
        raise errors.Internal("yaml: unmarshal errors: properties is not a map")
    texts = {str(key): _text(value) for key, value in properties.items() if not isinstance(value, dict | list)}
    return architecture, created, _number(document, "expiry_date"), texts


def _text(value: Any) -> str:
    """A property as Go's YAML reads it into a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _number(document: dict[Any, Any], key: str) -> int:
    value = document.get(key) or 0
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**62) < value < 2**62:
        raise errors.Internal(f"yaml: unmarshal errors: {key} is not a whole number")
    return value


def _architecture(value: Any) -> str:
    """The kernel's name of an architecture."""
    name = value if isinstance(value, str) else ""
    for known, others in ARCHITECTURES.items():
        if name == known or name in others:
            return known
    raise errors.Internal(f"Architecture isn't supported: {name}")
