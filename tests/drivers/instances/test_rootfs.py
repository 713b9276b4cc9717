"""A rootfs on a file system without idmapped mounts: its files are given to the container's ids, and back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.instances.host import rootfs as host_rootfs
from services.instances.host.files import Tree
from services.instances.host.idmap import both
from services.instances.host.spec import Key, Spec
from tests.drivers.instances.conftest import IDMAP, World, requires_root

pytestmark = requires_root
KEY = Key("default", "c1")


@pytest.fixture
def overlaid(world: World) -> Iterator[Spec]:
    """Its rootfs is an overlay, which the kernel cannot mount with shifted ids."""
    spec = world.spec()
    folders = {name: spec.volume / name for name in ("lower", "upper", "work")}
    spec.rootfs.rename(folders["lower"])
    for folder in (folders["upper"], folders["work"], spec.rootfs):
        folder.mkdir()
    folders["upper"].chmod(0o755)
    options = f"lowerdir={folders['lower']},upperdir={folders['upper']},workdir={folders['work']}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(spec.rootfs)], check=True)
    spec.volume.chmod(0o100)  # as the storage part makes it
    try:
        yield spec
    finally:
        subprocess.run(["umount", "-l", str(spec.rootfs)], check=True)


async def text(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_which_file_systems_can(overlaid: Spec, world: World) -> None:
    assert host_rootfs.idmappable(world.volumes)
    assert not host_rootfs.idmappable(overlaid.rootfs)


async def test_owners_are_shifted_and_back(overlaid: Spec, world: World) -> None:
    import dataclasses

    (overlaid.rootfs / "f").write_text("x")
    os.chown(overlaid.rootfs / "f", 5, 6)
    (overlaid.rootfs / "suid").write_text("x")
    (overlaid.rootfs / "suid").chmod(0o4755)
    os.link(overlaid.rootfs / "f", overlaid.rootfs / "linked")
    await world.containers.start(overlaid)
    assert await world.shell(KEY, "stat -c %u:%g /f /linked /suid /; stat -c %a /suid") == "5:6\n5:6\n0:0\n0:0\n4755\n"
    assert (overlaid.rootfs / "f").stat().st_uid == 1_000_005
    await world.shell(KEY, "touch /made")
    await world.containers.kill(KEY)
    assert host_rootfs.disk_map(overlaid.volume) == IDMAP
    async with Tree.of(world.containers, KEY, overlaid.volume, IDMAP) as tree:
        assert (await tree.stat("/f")).uid == 5
        await tree.write("/new", text(b"x"), uid=7)
        assert (await tree.stat("/made")).uid == 0
    assert (overlaid.rootfs / "new").stat().st_uid == 1_000_007

    moved = both(2_000_000, 0, 65_536)
    await world.containers.start(dataclasses.replace(overlaid, idmap=moved))
    assert await world.shell(KEY, "stat -c %u /f /new /made") == "5\n7\n0\n"
    await world.containers.kill(KEY)

    await world.containers.start(dataclasses.replace(overlaid, idmap=None))
    assert await world.shell(KEY, "stat -c %u /f /new /made") == "5\n7\n0\n"
    assert (overlaid.rootfs / "f").stat().st_uid == 5
    assert host_rootfs.disk_map(overlaid.volume) is None
    await world.containers.kill(KEY)


async def test_a_shift_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    for name, owner in (("done", 1_000_003), ("open", 3)):
        (tmp_path / "rootfs" / name).touch()
        os.chown(tmp_path / "rootfs" / name, owner, owner)
    ranges = json.loads(IDMAP.to_json())
    (tmp_path / host_rootfs.RECORD).write_text(json.dumps({"disk": [], "towards": ranges}))
    assert await host_rootfs.settle(tmp_path, IDMAP)  # here the ids of the inside are wanted again
    assert {(tmp_path / "rootfs" / name).stat().st_uid for name in ("done", "open")} == {3}
    assert not (tmp_path / host_rootfs.RECORD).exists()


async def test_the_record_of_a_shift_is_read_and_written_through_no_link(tmp_path: Path) -> None:
    secret, volume = tmp_path / "secret", tmp_path / "volume"
    secret.write_text(json.dumps({"disk": json.loads(IDMAP.to_json())}))
    (volume / "rootfs").mkdir(parents=True)
    (volume / host_rootfs.RECORD).symlink_to(secret)
    (volume / f"{host_rootfs.RECORD}.new").symlink_to(secret)
    assert host_rootfs.disk_map(volume) is None
    before = secret.read_text()
    host_rootfs._record(volume, {"disk": []})
    assert secret.read_text() == before
    assert not (volume / host_rootfs.RECORD).is_symlink()


@pytest.mark.skipif(
    shutil.which("setfacl") is None or shutil.which("setcap") is None, reason="needs acl and libcap2-bin"
)
async def test_acls_and_capabilities_move_along(overlaid: Spec, world: World) -> None:
    (overlaid.rootfs / "f").write_text("x")
    subprocess.run(["setfacl", "-m", "u:5:r", str(overlaid.rootfs / "f")], check=True)
    subprocess.run(["setcap", "cap_net_raw+ep", str(overlaid.rootfs / "f")], check=True)
    await world.containers.start(overlaid)
    shown = subprocess.run(["getfacl", "-n", str(overlaid.rootfs / "f")], check=True, capture_output=True, text=True)
    assert "user:1000005:r--" in shown.stdout
    shown = subprocess.run(["getcap", "-n", str(overlaid.rootfs / "f")], check=True, capture_output=True, text=True)
    assert "rootid=1000000" in shown.stdout
