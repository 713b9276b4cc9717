"""What only btrfs does: sources of three kinds, mount options, subvolumes that a container made."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis import errors
from chassis.command import Command
from services.storage.drivers import Place, VolumeName, host
from services.storage.drivers.btrfs import BtrfsDriver, subvolumes
from tests.drivers.storage.conftest import Pool, available, no_loop_device_is_left

C1 = VolumeName("container", "default", "c1")
TOKEN = "5c6f6c52-1f0a-4a1e-8f6e-6a2f6ad0c0de"


@pytest.fixture(autouse=True)
async def _btrfs() -> None:
    await available("btrfs")


def _driver(directory: Path, config: dict[str, str], token: str = "") -> BtrfsDriver:
    place = Place("pool", directory / "storage-pools" / "pool", directory / "disks", config, token)
    return BtrfsDriver(Place(place.name, place.path, place.disks, BtrfsDriver.complete(place), token))


async def test_mount_options_are_changed_while_it_is_mounted(tmp_path: Path) -> None:
    driver = _driver(tmp_path, {"size": "128MiB", "btrfs.mount_options": "noatime"})
    await driver.create()
    try:
        mounted = host.mounted_at(driver.place.path)
        assert mounted is not None
        assert "noatime" in mounted.options
        await driver.update({**driver.place.config, "btrfs.mount_options": "noatime,compress=zstd"})
        mounted = host.mounted_at(driver.place.path)
        assert mounted is not None
        assert "compress=zstd:3" in mounted.options
        with pytest.raises(errors.Internal, match="bogus"):
            await driver.update({**driver.place.config, "btrfs.mount_options": "bogus"})
    finally:
        await driver.destroy()


async def test_a_pool_on_a_loop_file_grows(tmp_path: Path) -> None:
    driver = _driver(tmp_path, {"size": "128MiB"})
    await driver.create()
    try:
        await driver.update({**driver.place.config, "size": "256MiB"})
        assert (await driver.space()).total == 256 * 1024 * 1024
        with pytest.raises(errors.Internal, match="cannot be shrunk"):
            await driver.update({**driver.place.config, "size": "64MiB"})
    finally:
        await driver.destroy()


async def test_subvolumes_of_a_container_go_with_it(tmp_path: Path) -> None:
    driver = _driver(tmp_path, {"size": "128MiB"})
    await driver.create()
    try:
        await driver.make(C1)
        path = await driver.mount(C1)
        await subvolumes.create(path / "inner")
        await subvolumes.create(path / "inner" / "innermost")
        await driver.remove(C1)
        assert not path.exists()
    finally:
        await driver.destroy()


@pytest.fixture
async def device(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A loop device, detached at the end."""
    file = tmp_path / "disk"
    with file.open("wb") as disk:
        disk.truncate(256 * 1024 * 1024)
    found = (await Command("losetup", "--find", "--show", str(file)).run()).text.strip()
    yield found
    await Command("losetup", "-d", found).run()
    await no_loop_device_is_left(tmp_path)


async def test_a_block_device_is_formatted_and_given_back_empty(tmp_path: Path, device: str) -> None:
    driver = _driver(tmp_path, {"source": device}, TOKEN)
    assert driver.place.config["volatile.initial_source"] == device
    await driver.create()
    await driver.make(C1)
    await driver.create()  # as a resumed operation does
    assert await driver.exists(C1)
    await driver.destroy()
    found = await Command("blkid", "-p", "--", device).run(codes=(0, 2))
    assert "btrfs" not in found.text


async def test_a_device_of_somebody_else_is_left_as_it_was(tmp_path: Path, device: str) -> None:
    await Command("mkfs.btrfs", "-q", "-L", "pool", "--", device).run()
    driver = _driver(tmp_path, {"source": device}, TOKEN)
    with pytest.raises(errors.Internal, match=r"mkfs\.btrfs"):
        await driver.create()
    await driver.destroy()
    found = await Command("blkid", "-p", "--", device).run(codes=(0, 2))
    assert 'TYPE="btrfs"' in found.text


async def test_a_folder_on_btrfs_becomes_a_pool_and_is_kept(tmp_path: Path) -> None:
    outer = _driver(tmp_path / "outer", {"size": "128MiB"})
    await outer.create()
    try:
        folder = outer.place.path / "mine"
        await subvolumes.create(folder)
        driver = _driver(tmp_path / "inner", {"source": str(folder)})
        await driver.create()
        await driver.make(C1)
        assert (folder / "containers" / "c1").is_dir()
        await driver.destroy()
        assert list(folder.iterdir()) == []
    finally:
        await outer.destroy()


async def test_a_folder_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    driver = _driver(tmp_path / "d", {"source": str(folder)})
    if (await Command("stat", "-f", "-c", "%T", str(folder)).run()).text.strip() == "btrfs":
        pytest.skip("every folder of this machine is on btrfs: none is there to be refused")
    with pytest.raises(errors.Internal, match="does not reside on a btrfs filesystem"):
        await driver.create()
    await driver.destroy()
    assert folder.is_dir()


async def test_images_are_kept_read_only(pool: Pool) -> None:
    if not pool.driver.clones:
        pytest.skip("a driver without clones unpacks an image for each volume, so it has none to protect")
    image = VolumeName("image", "default", "f" * 64)
    await pool.driver.make(image)
    with pytest.raises(OSError, match="Read-only"):
        (await pool.driver.mount(image) / "x").touch()
    await pool.driver.copy(image, C1)
    (await pool.driver.mount(C1) / "x").touch()
    await pool.driver.remove(image)
    assert (await pool.driver.mount(C1) / "x").exists()
