"""What the drivers decide, without a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis import errors
from services.storage.drivers import VolumeName, driver_named
from services.storage.drivers.btrfs import plan as btrfs
from services.storage.drivers.dir import plan as dir_plan
from services.storage.drivers.keys import volume_defaults
from services.storage.pool import refuse_name

PLACE = Path("/d/storage-pools/p")


def test_a_loop_file_is_made_formatted_and_mounted() -> None:
    changes = btrfs.plan_create("p", "token", "/d/disks/p.img", PLACE, 1024, "noatime", btrfs.Facts("file"))
    assert changes == [
        btrfs.LoopFile(Path("/d/disks/p.img"), 1024),
        btrfs.Format(Path("/d/disks/p.img"), "p", ""),
        btrfs.MountDevice("/d/disks/p.img", PLACE, "noatime", True),
    ]


def test_what_is_mounted_needs_nothing() -> None:
    mounted = btrfs.Facts("file", mounted=True)
    assert btrfs.plan_create("p", "t", "/d/disks/p.img", PLACE, 1, "", mounted) == []
    assert btrfs.plan_open("/d/disks/p.img", PLACE, "", mounted) == []


def test_a_device_that_this_creation_has_formatted_is_not_formatted_again() -> None:
    facts = btrfs.Facts("block", "btrfs", "p", "token")
    mounted = [btrfs.MountDevice("/dev/x", PLACE, "", False)]
    assert btrfs.plan_create("p", "token", "/dev/x", PLACE, 0, "", facts) == mounted
    other = btrfs.plan_create("p", "other", "/dev/x", PLACE, 0, "", facts)
    assert other[0] == btrfs.Format(Path("/dev/x"), "p", "other")


def test_a_uuid_stands_for_its_device() -> None:
    uuid = "5c6f6c52-1f0a-4a1e-8f6e-6a2f6ad0c0de"
    assert btrfs.kind_of_name(uuid) == "uuid"
    assert btrfs.plan_open(uuid, PLACE, "o", btrfs.Facts("uuid")) == [
        btrfs.MountDevice(f"UUID={uuid}", PLACE, "o", False)
    ]


@pytest.mark.parametrize(
    ("source", "facts", "reason"),
    [
        ("/d/other", btrfs.Facts("folder", "btrfs", subvolume=True), "within the LXD directory"),
        ("/data", btrfs.Facts("folder", "ext2/ext3"), "does not reside on a btrfs filesystem"),
        ("/data", btrfs.Facts("folder", "btrfs", subvolume=True, empty=False), "not empty"),
        ("/data", btrfs.Facts("folder", "btrfs"), "is not a btrfs subvolume"),
    ],
)
def test_a_folder_that_cannot_be_a_pool(source: str, facts: btrfs.Facts, reason: str) -> None:
    with pytest.raises(errors.Internal, match=reason):
        btrfs.plan_create("p", "t", source, PLACE, 0, "", facts)


@pytest.mark.parametrize(("free", "size"), [(0, 5), (50, 10), (1000, 30)])
def test_the_size_of_a_loop_file_follows_what_is_free(free: int, size: int) -> None:
    assert btrfs.default_size(free * btrfs.GIB) == size * btrfs.GIB


def test_a_source_is_bound_once() -> None:
    source = Path("/mnt/data")
    facts = dir_plan.Facts(source_there=True, source_empty=True, mounted=False)
    assert dir_plan.plan_create(source, PLACE, facts) == [dir_plan.Bind(source, PLACE)]
    assert dir_plan.plan_create(PLACE, PLACE, facts) == []
    there = dir_plan.Facts(source_there=True, source_empty=False, mounted=True)
    assert dir_plan.plan_open(source, PLACE, there) == []


@pytest.mark.parametrize(
    ("volume", "path"),
    [
        (VolumeName("container", "default", "c1"), "containers/c1"),
        (VolumeName("container", "p", "c1"), "containers/p_c1"),
        (VolumeName("custom", "default", "v1"), "custom/default_v1"),
        (VolumeName("custom", "p", "v1", "s0"), "custom-snapshots/p_v1/s0"),
        (VolumeName("image", "p", "f" * 64), "images/" + "f" * 64),
        (VolumeName.of("virtual-machine", "default", "v/s"), "virtual-machines-snapshots/v/s"),
    ],
)
def test_volumes_lie_where_lxd_has_them(volume: VolumeName, path: str) -> None:
    assert str(volume.path) == path


@pytest.mark.parametrize("name", ["", "..", ".", "a/../b", "a/", "/a", "a\0", ".new-c1", "a/b/c"])
def test_a_name_is_never_a_way_out(name: str) -> None:
    with pytest.raises(errors.BadRequest):
        VolumeName.of("container", "default", name)


def test_the_type_of_a_volume_is_checked() -> None:
    with pytest.raises(errors.BadRequest, match="Invalid storage volume type name"):
        VolumeName("bogus", "default", "c1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "No name provided"),
        ("a/b", "Storage pool names may not contain slashes"),
        ("..", "Invalid storage pool name"),
        ("-x", "Invalid storage pool name"),
    ],
)
def test_pool_names(name: str, text: str) -> None:
    with pytest.raises(errors.BadRequest, match=text):
        refuse_name(name)


def test_defaults_of_new_volumes() -> None:
    assert volume_defaults({"volume.size": "1GiB", "size": "9GiB", "volume.user.x": ""}) == {"size": "1GiB"}


def test_what_rsync_does_between_machines_is_no_choice_yet() -> None:
    driver_named("dir").pool_keys.validate({"rsync.compression": "true"})
    with pytest.raises(errors.Internal, match="Not supported by this server yet"):
        driver_named("dir").pool_keys.validate({"rsync.compression": "false"})
