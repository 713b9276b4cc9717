"""What pools of the driver `btrfs` do beyond what all pools do."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.world import Ground, World, unique

COLLECTION = "/1.0/storage-pools"


@pytest.fixture(autouse=True)
def _supported(world: World) -> None:
    drivers = {driver["Name"] for driver in world.api.get("/1.0")["environment"]["storage_supported_drivers"]}
    if "btrfs" not in drivers:
        pytest.skip("btrfs does not work on this machine")


def pool(world: World, **config: str) -> str:
    name = unique("pool")
    world.finally_do(lambda: world.gone(f"{COLLECTION}/{name}"))
    world.api.post(COLLECTION, {"name": name, "driver": "btrfs", "config": config})
    return name


def mount_options(pool_path: str) -> set[str]:
    """Options of what is mounted there, in whichever namespace."""
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        with contextlib.suppress(OSError):
            for line in mounts.read_text().splitlines():
                _, target, _, options, *_ = line.split()
                if target.endswith(pool_path):
                    return set(options.split(","))
    return set()


@pytest.mark.extension("storage_btrfs_mount_options")
def test_mount_options_are_used_and_changed_while_it_is_mounted(world: World) -> None:
    name = pool(world, size="256MiB", **{"btrfs.mount_options": "noatime"})
    assert "noatime" in mount_options(f"/storage-pools/{name}")
    world.api.patch(f"{COLLECTION}/{name}", {"config": {"btrfs.mount_options": "noatime,compress=zstd"}})
    assert "compress=zstd:3" in mount_options(f"/storage-pools/{name}")


@pytest.mark.extension("storage_btrfs_mount_options")
def test_an_option_that_btrfs_does_not_know_is_refused_and_leaves_nothing(world: World) -> None:
    name = unique("pool")
    config = {"size": "256MiB", "btrfs.mount_options": "bogus"}
    answer = world.api.request("POST", COLLECTION, {"name": name, "driver": "btrfs", "config": config})
    assert answer.status == 500
    assert world.api.request("GET", f"{COLLECTION}/{name}").status == 404


@pytest.mark.extension("storage_images_delete")
def test_an_image_kept_in_a_pool_is_deleted_and_unpacked_again(world: World, ground: Ground) -> None:
    name = pool(world, size="256MiB")
    root: dict[str, Any] = {"devices": {"root": {"type": "disk", "path": "/", "pool": name}}}
    world.instance(**root)
    images = f"{COLLECTION}/{name}/volumes/image"
    assert world.api.get(images) == [f"{images}/{ground.image}"]
    world.api.delete(f"{images}/{ground.image}")
    assert world.api.get(images) == []
    assert world.api.request("GET", f"/1.0/images/{ground.image}").status == 200
    again = world.instance(start=True, **root)
    assert world.shell(again, "hostname") == again
    assert world.api.request("DELETE", f"{images}/{'0' * 64}").status == 404
    answer = world.api.request("DELETE", f"{COLLECTION}/{name}/volumes/container/{again}")
    assert answer.status == 400
    assert "cannot be deleted with the storage API" in answer.error


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A loop device of 256 MiB."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    found = subprocess.run(["losetup", "--find", "--show", disk], check=True, capture_output=True, text=True)
    yield found.stdout.strip()
    subprocess.run(["losetup", "-d", found.stdout.strip()], check=True)


@pytest.mark.extension("storage_volatile_initial_source")
def test_the_device_that_a_pool_was_made_on_is_remembered(world: World, device: str) -> None:
    name = pool(world, source=device)
    config = world.api.get(f"{COLLECTION}/{name}")["config"]
    assert config["volatile.initial_source"] == device
    world.api.delete(f"{COLLECTION}/{name}")


@pytest.mark.extension("storage_volatile_initial_source")
def test_a_pool_on_a_loop_file_of_its_own_has_no_initial_source(world: World) -> None:
    assert "volatile.initial_source" not in world.api.get(f"{COLLECTION}/{pool(world, size='256MiB')}")["config"]


def test_a_root_disk_is_limited_by_its_size(world: World) -> None:
    name = pool(world, size="256MiB")
    root = {"type": "disk", "path": "/", "pool": name, "size": "20MiB"}
    instance = world.instance(start=True, devices={"root": root})
    script = "dd if=/dev/urandom of=/root/large bs=1M count=40 conv=fsync 2>&1 || echo full"
    assert world.shell(instance, script).endswith("full")
