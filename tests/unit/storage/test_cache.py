"""Images kept unpacked: once a machine, never half, forgotten when the image is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from chassis import errors
from services.storage.cache import UNUSED, Trees
from services.storage.image_files import ImageSource
from tools import busybox_image as busybox


def store_image(directory: Path, data: bytes) -> str:
    fingerprint = hashlib.sha256(data).hexdigest()
    (directory / "images").mkdir(exist_ok=True)
    (directory / "images" / fingerprint).write_bytes(data)
    return fingerprint


def trees(directory: Path, known: set[str]) -> Trees:
    return Trees(directory, ImageSource(directory), lambda fingerprint: fingerprint in known)


async def test_many_at_once_unpack_it_once(tmp_path: Path) -> None:
    fingerprint = store_image(tmp_path, busybox.unified_tar())
    cache = trees(tmp_path, {fingerprint})
    inodes = set()

    async def look() -> None:
        async with cache.held(fingerprint) as tree:
            inodes.add(os.stat(tree / "rootfs").st_ino)

    await asyncio.gather(*(look() for _ in range(5)))
    assert len(inodes) == 1
    assert [path.name for path in cache.folder.iterdir()] == [fingerprint]


async def test_a_broken_image_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    data = busybox.unified_tar()
    fingerprint = store_image(tmp_path, data[: len(data) // 2])
    cache = trees(tmp_path, {fingerprint})
    with pytest.raises(errors.Internal):
        async with cache.held(fingerprint):
            pass
    assert list(cache.folder.iterdir()) == []
    (tmp_path / "images" / fingerprint).write_bytes(data)
    async with cache.held(fingerprint) as tree:
        assert tree.is_dir()


async def test_sweeping_spares_what_is_in_use_or_fresh(tmp_path: Path) -> None:
    fingerprint = store_image(tmp_path, busybox.unified_tar())
    known = {fingerprint}
    cache = trees(tmp_path, known)
    async with cache.held(fingerprint) as tree:
        known.clear()
        await cache.sweep()
        assert tree.is_dir()
        known.add(fingerprint)
    await cache.sweep()
    assert tree.is_dir()
    old = time.time() - UNUSED - 1
    os.utime(tree, (old, old))
    await cache.sweep()
    assert not tree.exists()


async def test_an_unknown_image_and_a_half_one_are_swept_out(tmp_path: Path) -> None:
    cache = trees(tmp_path, set())
    for name in ("f" * 64, ".new-" + "e" * 64):
        (cache.folder / name).mkdir(parents=True)
    await cache.sweep()
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["", "abc", "../../etc", "F" * 64])
async def test_what_is_no_fingerprint_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.NotFound):
        async with ImageSource(tmp_path).files(name):
            pass


async def test_a_link_in_the_store_is_not_followed(tmp_path: Path) -> None:
    fingerprint = "a" * 64
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / fingerprint).symlink_to("/etc/passwd")
    with pytest.raises(errors.Unavailable):
        async with ImageSource(tmp_path).files(fingerprint):
            pass
