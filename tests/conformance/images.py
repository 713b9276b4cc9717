"""Images for the tests, made by `tools/busybox_image.py`: good ones in every shape, and hostile ones."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.conformance.client import Client
from tools import busybox_image as busybox

UNIFIED = "application/octet-stream"


@cache
def unified(compression: str = "tar.gz") -> bytes:
    """The busybox image as one compressed tar."""
    return busybox.COMPRESSORS[compression](busybox.unified_tar())


def unified_with(properties: Mapping[str, str], compression: str = "tar") -> bytes:
    """An image whose fingerprint differs from all others, because its properties do."""
    return busybox.COMPRESSORS[compression](busybox.unified_tar(busybox.metadata(properties)))


@cache
def _squashed() -> bytes:
    with TemporaryDirectory() as scratch:
        return busybox.squashfs(busybox.rootfs_tar(), Path(scratch) / "rootfs.squashfs")


def split(kind: str, properties: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Metadata tar.xz and rootfs, the latter as `squashfs` or one of the tar kinds."""
    meta = busybox.COMPRESSORS["tar.xz"](busybox.metadata_tar(busybox.metadata(properties)))
    return meta, _squashed() if kind == "squashfs" else busybox.COMPRESSORS[kind](busybox.rootfs_tar())


def fingerprint(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def multipart(meta: bytes, rootfs: bytes, boundary: str = "nubibus-boundary") -> tuple[bytes, dict[str, str]]:
    """Body and headers of a split upload, as `lxc image import META ROOTFS` sends it."""
    chunks = []
    for name, data in (("metadata", meta), ("rootfs", rootfs)):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        chunks += [head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", data, b"\r\n"]
    chunks.append(f"--{boundary}--\r\n".encode())
    return b"".join(chunks), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def upload(api: Client, data: bytes, **headers: str) -> str:
    """Imports a unified image and returns its fingerprint."""
    operation = api.change("POST", "/1.0/images", data, headers)
    return str(operation["metadata"]["fingerprint"])


def upload_split(api: Client, meta: bytes, rootfs: bytes, **headers: str) -> str:
    body, named = multipart(meta, rootfs)
    operation = api.change("POST", "/1.0/images", body, {**named, **headers})
    return str(operation["metadata"]["fingerprint"])


def _rooted(spoil: Callable[[busybox.Tree], Any], properties: Mapping[str, str]) -> bytes:
    tree = busybox.Tree()
    busybox.add_metadata(tree, busybox.metadata(properties))
    tree.directory("rootfs")
    tree.prefix = "rootfs/"
    busybox.add_rootfs(tree)
    spoil(tree)
    return tree.bytes()


def hostile(victim: Path, properties: Mapping[str, str]) -> dict[str, bytes]:
    """Unified images by what is wrong with them; each tries to create the file `victim`, outside of its tree."""
    climb = "../" * 20 + str(victim).lstrip("/")
    parent, leaf = str(victim.parent), victim.name

    def through_link(tree: busybox.Tree) -> None:
        tree.symlink("way-out", parent)
        tree.file(f"way-out/{leaf}", b"owned")

    def through_hard_link(tree: busybox.Tree) -> None:
        tree.add("hard", tarfile.LNKTYPE, 0o644, link=climb)

    spoilers: dict[str, Callable[[busybox.Tree], None]] = {
        "parent references": lambda tree: tree.file(f"rootfs/{climb}", b"owned", raw=True),
        "an absolute path": lambda tree: tree.file(str(victim), b"owned", raw=True),
        "a symlink out of the tree": through_link,
        "a hard link out of the tree": through_hard_link,
    }
    return {name: _rooted(spoil, {**properties, "hostile": name}) for name, spoil in spoilers.items()}


def odd_files() -> bytes:
    """An image with a directory /odd of files whose owner, mode and kind an import could lose."""

    def spoil(tree: busybox.Tree) -> None:
        tree.directory("odd")
        tree.add("odd/text", tarfile.REGTYPE, 0o640, b"text", owner=(7, 8))
        tree.add("odd/hard", tarfile.LNKTYPE, 0o640, link="rootfs/odd/text", owner=(7, 8))
        tree.symlink("odd/link", "text")
        tree.file("odd/setuid", b"x", 0o4755)
        tree.add("odd/empty", tarfile.DIRTYPE, 0o700, owner=(5, 6))

    return _rooted(spoil, {"odd": "yes"})


def with_device_nodes(properties: Mapping[str, str]) -> bytes:
    """An image whose rootfs holds the block device 254:0 and the character device 1:3."""

    def spoil(tree: busybox.Tree) -> None:
        for name, kind, numbers in (("disk", tarfile.BLKTYPE, (254, 0)), ("null", tarfile.CHRTYPE, (1, 3))):
            entry = tarfile.TarInfo(f"rootfs/root/{name}")
            entry.type, entry.mode = kind, 0o666
            entry.devmajor, entry.devminor = numbers
            tree.tar.addfile(entry)

    return _rooted(spoil, properties)
