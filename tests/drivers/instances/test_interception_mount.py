"""File systems that the host mounts for a container."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.instances.host.spec import Spec
from tests.drivers.instances.conftest import World, requires_root
from tests.drivers.instances.test_interception import outcome
from tests.programs import requires_x86_64

pytestmark = [requires_root, requires_x86_64]

PREFIX = "security.syscalls.intercept.mount"
ON = {PREFIX: "true", f"{PREFIX}.allowed": "ext4,hugetlbfs"}
READ_ONLY, NODEV, REMOUNT, BIND = 0x1, 0x4, 0x20, 0x1000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A loop device with an ext4 that holds a file of root's, a block device and a character device."""
    content, image = tmp_path / "content", tmp_path / "image"
    content.mkdir()
    (content / "file").write_text("text")
    os.mknod(content / "null", 0o20666, os.makedev(1, 3))
    os.mknod(content / "block", 0o60666, os.makedev(7, 200))
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", str(content), str(image)], check=True)
    device = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True).stdout
    yield device.strip(), os.stat(device.strip()).st_rdev
    subprocess.run(["losetup", "-d", device.strip()], check=True)


async def started(world: World, disk: tuple[str, int], config: dict[str, str]) -> Spec:
    """With the device's node in its rootfs, as its root's."""
    spec = world.spec(config=config)
    os.mknod(spec.rootfs / "disk", 0o60600, disk[1])
    (spec.rootfs / "mnt").mkdir(exist_ok=True)
    await world.containers.start(spec)
    return spec


MOUNT = ("mount", b"/disk", b"/mnt", b"ext4", READ_ONLY, 0)


async def test_an_allowed_file_system_is_mounted(world: World, disk: tuple[str, int]) -> None:
    spec = await started(world, disk, ON)
    assert await outcome(world, spec, MOUNT) == 0
    line = await world.shell(spec.key, "grep ' /mnt ' /proc/self/mounts; cat /mnt/file; stat -c ' %u' /mnt/file")
    assert line.split()[:4] == ["/disk", "/mnt", "ext4", "ro,nodev,relatime"]
    assert line.endswith("text 65534\n")
    assert await outcome(world, spec, ("mount", b"/disk", b"/mnt", b"xfs", READ_ONLY, 0)) == errno.EPERM
    assert str(world.directory) not in Path("/proc/self/mountinfo").read_text()
    await world.shell(spec.key, "umount /mnt; ! test -e /mnt/file")


async def test_the_list_and_the_shift_count_as_they_are_now(world: World, disk: tuple[str, int]) -> None:
    spec = await started(world, disk, {PREFIX: "true"})
    writable = ("mount", b"/disk", b"/mnt", b"ext4", 0, b"errors=continue")
    assert await outcome(world, spec, writable) == errno.EPERM
    shifted = {**ON, f"{PREFIX}.shift": "true"}
    await world.containers.apply_limits(spec.key, spec.config, shifted)
    assert await outcome(world, spec, writable) == 0
    found = await world.shell(
        spec.key, "stat -c %u /mnt/file; echo more >> /mnt/file; touch /mnt/new; cat /mnt/file; umount /mnt"
    )
    assert found == "0\ntextmore\n"
    await world.containers.apply_limits(spec.key, shifted, {PREFIX: "true", f"{PREFIX}.allowed": "xfs"})
    assert await outcome(world, spec, writable) == errno.EPERM


@pytest.mark.parametrize("shift", ["true", "false"])
async def test_a_file_system_brings_no_devices_and_none_of_it_can_be_undone(
    world: World, disk: tuple[str, int], shift: str
) -> None:
    spec = await started(world, disk, {**ON, f"{PREFIX}.shift": shift})
    assert await outcome(world, spec, MOUNT) == 0
    code, said = await world.run(spec.key, "sh", "-c", "echo x > /mnt/null")
    assert (code, "Permission denied" in said) == (1, True)
    assert await outcome(world, spec, ("open", b"/mnt/block", 0)) == errno.EACCES
    for flags in (READ_ONLY, 0, READ_ONLY | NODEV):  # the last one keeps nodev
        expected = errno.EPERM if flags != READ_ONLY | NODEV else 0
        assert await outcome(world, spec, ("mount", 0, b"/mnt", 0, REMOUNT | BIND | flags, 0)) == expected
    assert await outcome(world, spec, ("mount", 0, b"/mnt", 0, REMOUNT, 0)) == errno.EPERM
    assert await outcome(world, spec, ("open", b"/mnt/null", 1)) == errno.EACCES


async def test_who_may_not_ask_for_it_is_refused(world: World, disk: tuple[str, int]) -> None:
    spec = await started(world, disk, ON)
    (spec.rootfs / "other").touch()
    os.mknod(spec.rootfs / "hosts", 0o60600, disk[1])
    os.chown(spec.rootfs / "hosts", 99_999, 99_999)  # nobody inside
    other = world.spec("other")
    os.mknod(other.rootfs / "disk", 0o60600, disk[1])
    await world.containers.start(other)
    assert await outcome(world, other, MOUNT) == errno.EPERM
    assert await outcome(world, spec, ("setuid", 1000), MOUNT) == errno.EPERM
    assert await outcome(world, spec, ("unshare", 0x10000000 | 0x20000), MOUNT) == errno.EPERM
    for source, target, kind, expected in (
        (b"/other", b"/mnt", b"ext4", errno.ENOTBLK),
        (b"/none", b"/mnt", b"ext4", errno.ENOENT),
        (b"/hosts", b"/mnt", b"ext4", errno.EACCES),
        (b"/disk", b"/none", b"ext4", errno.ENOENT),
        (b"/disk", b"/other", b"ext4", errno.ENOTDIR),
        (b"/disk", b"/proc/1/root/mnt", b"ext4", errno.ELOOP),
        (b"/disk", 0, b"ext4", errno.EFAULT),
        (0, b"/mnt", b"ext4", errno.ENOENT),
        (b"/disk", b"/mnt", 0x1000, errno.EFAULT),
        (b"/disk", b"/mnt", b"e" * 4096, errno.ENAMETOOLONG),
    ):
        found = await outcome(world, spec, ("mount", source, target, kind, READ_ONLY, 0))
        assert found == expected, (source, target, kind, errno.errorcode.get(found, found))
    assert await outcome(world, spec, ("mount", b"/disk", b"/mnt", b"ext4", READ_ONLY, b"nonsense=1")) == errno.EINVAL
    assert await outcome(world, spec, ("mount", b"none", b"/mnt", b"tmpfs", 0, 0)) == 0  # its own right, as ever


async def test_huge_pages_are_offered_as_its_roots_own(world: World, disk: tuple[str, int]) -> None:
    spec = await started(world, disk, ON)
    for data, ids in ((0, (1_000_000, 1_000_000)), (b"uid=5,mode=0700,gid=6", (1_000_005, 1_000_006))):
        assert await outcome(world, spec, ("mount", b"none", b"/mnt", b"hugetlbfs", 0, data)) == 0
        found = await world.shell(
            spec.key, "stat -c %u:%g /mnt; grep ' /mnt ' /proc/self/mounts; touch /mnt/x; umount /mnt"
        )
        assert found.startswith(":".join(str(ident - 1_000_000) for ident in ids))
        assert f"uid={ids[0]},gid={ids[1]}" in found
    for data in (b"uid=-1", b"uid=70000", b"uid=x"):  # 70000 is not the container's
        assert await outcome(world, spec, ("mount", b"none", b"/mnt", b"hugetlbfs", 0, data)) == errno.EINVAL
    assert await outcome(world, spec, ("setuid", 1000), ("mount", b"none", b"/mnt", b"hugetlbfs", 0, 0)) == errno.EPERM


async def test_a_caller_in_a_mount_namespace_of_its_own_keeps_it_to_itself(world: World, disk: tuple[str, int]) -> None:
    spec = await started(world, disk, ON)
    apart = (("unshare", 0x20000), ("mount", 0, b"/", 0, 0x44000, 0))  # MS_REC | MS_PRIVATE
    assert await outcome(world, spec, *apart, MOUNT, ("open", b"/mnt/file", 0)) == 0
    assert await outcome(world, spec, ("open", b"/mnt/file", 0)) == errno.ENOENT


async def test_a_path_of_the_host_is_not_reached(world: World, disk: tuple[str, int], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    spec = await started(world, disk, ON)
    (spec.rootfs / "climb").symlink_to("../" * 20 + str(victim))
    assert await outcome(world, spec, ("mount", b"/disk", b"/climb", b"ext4", READ_ONLY, 0)) == errno.ENOENT
    host = disk[0].encode()
    assert await outcome(world, spec, ("mount", host, b"/mnt", b"ext4", READ_ONLY, 0)) == errno.ENOENT


HELPER = """#!/bin/sh
for word in "$0" "$@"; do echo "$word"; done > /command
{ id -u; pwd; readlink /proc/self/fd/0; cat /proc/self/uid_map; } > /told
cat /proc/self/cgroup /proc/1/cgroup > /groups
cat /proc/self/status > /status
{ cat /proc/self/oom_score_adj; ulimit -n; ulimit -c; cat /proc/self/stat; } > /ordinary
test "$2" != /refused && mount -t tmpfs none "$2"
"""


async def test_a_file_system_is_mounted_by_the_containers_own_program(world: World, disk: tuple[str, int]) -> None:
    config = {
        PREFIX: "true",
        f"{PREFIX}.fuse": "ext4=fuse2fs",
        f"{PREFIX}.allowed": "xfs",
        "limits.kernel.nofile": "500",
    }
    spec = await started(world, disk, config)
    ask = (("chdir", b"/root"), ("mount", b"/disk", b"/mnt", b"ext4", READ_ONLY, b"a,b=c"))
    assert await outcome(world, spec, *ask) != 0  # it has no program of that name
    helper = spec.rootfs / "sbin/mount.fuse"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    for folder in ("refused", "root/-o"):
        (spec.rootfs / folder).mkdir(parents=True)
    assert await outcome(world, spec, *ask) == 0
    assert (spec.rootfs / "command").read_text().split("\n") == [
        "/sbin/mount.fuse", "fuse2fs#/disk", "/mnt", "-o", "ro,a,b=c", "",
    ]  # fmt: skip
    told = (spec.rootfs / "told").read_text().splitlines()
    assert (told[:3], told[-1].split()) == (["0", "/root", "/dev/null"], ["0", "1000000", "65536"])
    groups = (spec.rootfs / "groups").read_text().splitlines()
    ours, inits = (
        {line for line in part if "name=systemd" not in line and not line.startswith("0::")}
        for part in (groups[: len(groups) // 2], groups[len(groups) // 2 :])
    )
    assert ours == inits
    assert "SigIgn:\t0000000000000000" in (spec.rootfs / "status").read_text()
    ordinary = (spec.rootfs / "ordinary").read_text().splitlines()
    assert (int(ordinary[0]) >= 0, ordinary[1]) == (True, "500")
    assert ordinary[3].rpartition(")")[2].split()[16] == "0"  # its niceness
    assert "tmpfs" in await world.shell(spec.key, "grep ' /mnt ' /proc/self/mounts")
    assert await outcome(world, spec, ("mount", b"/disk", b"/refused", b"ext4", 0, 0)) == errno.EPERM
    assert await outcome(world, spec, ("setuid", 1000), ask[1]) != 0
    assert await outcome(world, spec, ask[0], ("mount", b"/disk", b"-o", b"ext4", 0, 0)) == 0
    assert "./-o" in (spec.rootfs / "command").read_text()
