"""Directories and files of the host in an instance, plugged in and out while it runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.world import World


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with a file of uid 1000 in it."""
    folder = tmp_path / "share"
    folder.mkdir()
    (folder / "greeting").write_text("hello\n")
    os.chown(folder, 1000, 1000)
    os.chown(folder / "greeting", 1000, 1000)
    for path in (tmp_path, *list(tmp_path.parents)[:3]):
        if path.stat().st_uid == os.getuid() and path != Path("/tmp"):
            path.chmod(0o755)
    return folder


def disk(source: Path, **keys: str) -> dict[str, str]:
    return {"type": "disk", "source": str(source), "path": "/mnt/share", **keys}


def test_a_directory_of_the_host_is_seen_inside(world: World, share: Path) -> None:
    name = world.instance(start=True, devices={"share": disk(share)})
    assert world.shell(name, "cat /mnt/share/greeting") == "hello"
    assert world.run(name, "touch", "/mnt/share/x").code != 0, "the ids of the host are nobody's inside"


def test_a_directory_is_plugged_into_and_out_of_a_running_instance(world: World, share: Path) -> None:
    name = world.instance(start=True)
    path = f"/1.0/instances/{name}"
    world.api.patch(path, {"devices": {"share": disk(share)}})
    assert world.shell(name, "cat /mnt/share/greeting") == "hello"

    shown = world.api.get(path)
    devices = {key: device for key, device in shown["devices"].items() if key != "share"}
    world.api.put(path, {**shown, "devices": devices})

    assert world.run(name, "cat", "/mnt/share/greeting").code != 0
    assert " /mnt/share " not in world.shell(name, "cat /proc/mounts")


def test_a_read_only_directory_is_not_written_to(world: World, share: Path) -> None:
    name = world.instance(
        start=True, config={"security.privileged": "true"}, devices={"share": disk(share, readonly="true")}
    )
    assert "Read-only" in world.run(name, "touch", "/mnt/share/x").stderr
    assert not (share / "x").exists()


@pytest.mark.extension("container_disk_shift")
@pytest.mark.differs("its probe for idmapped mounts fails on this kernel, so it refuses shift=true")
def test_a_shifted_directory_shows_the_hosts_ids_as_the_instances(world: World, share: Path) -> None:
    name = world.instance(start=True, devices={"share": disk(share, shift="true")})
    assert world.shell(name, "stat -c %u /mnt/share/greeting").strip() == "1000"
    world.shell(name, "touch /mnt/share/made")
    assert (share / "made").stat().st_uid == 0
    assert (share / "greeting").stat().st_uid == 1000


def test_a_single_file_is_mounted(world: World, share: Path) -> None:
    name = world.instance(start=True, devices={"one": {**disk(share / "greeting"), "path": "/etc/greeting"}})
    assert world.shell(name, "cat /etc/greeting") == "hello"


def test_an_optional_disk_may_be_missing_and_another_may_not(world: World, share: Path) -> None:
    gone = share / "gone"
    name = world.instance(start=True, devices={"share": disk(gone, optional="true")})
    assert world.api.get(f"/1.0/instances/{name}")["status"] == "Running"
    refusal = world.api.refusal("PATCH", f"/1.0/instances/{name}", {"devices": {"other": {**disk(gone), "path": "/x"}}})
    assert f'Missing source path "{gone}"' in refusal.text
    assert "other" not in world.api.get(f"/1.0/instances/{name}")["devices"]


class Mounts:
    """Mounts in the server's own namespace."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, *command: str) -> None:
        pid = self.world.api.get("/1.0")["environment"]["server_pid"]
        subprocess.run(["nsenter", "-t", str(pid), "-m", "--", *command], check=True)

    def tmpfs(self, folder: Path, how: str) -> None:
        folder.mkdir(exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", "mode=755", "inner", str(folder))
        self.world.finally_do(partial(self.run, "umount", "-l", str(folder)))
        self.run("mount", f"--make-{how}", str(folder))


def test_mounts_below_the_source_come_along_if_asked_for(world: World, share: Path) -> None:
    mounts = Mounts(world)
    mounts.tmpfs(share / "inner", "private")
    mounts.run("touch", str(share / "inner" / "deep"))
    devices = {"a": disk(share, recursive="true"), "b": {**disk(share), "path": "/mnt/flat"}}
    name = world.instance(start=True, devices=devices)
    assert world.run(name, "ls", "/mnt/share/inner/deep").code == 0
    assert world.run(name, "ls", "/mnt/flat/inner/deep").code != 0


@pytest.mark.extension("container_mount_propagation")
def test_later_mounts_spread_into_the_instance_if_asked_for(world: World, share: Path) -> None:
    mounts = Mounts(world)
    mounts.tmpfs(share, "shared")
    mounts.run("mkdir", str(share / "inner"))
    devices = {"a": disk(share, propagation="slave"), "b": {**disk(share, propagation="private"), "path": "/mnt/b"}}
    name = world.instance(start=True, devices=devices)
    mounts.tmpfs(share / "inner", "private")
    mounts.run("touch", str(share / "inner" / "deep"))
    assert world.run(name, "ls", "/mnt/share/inner/deep").code == 0
    assert world.run(name, "ls", "/mnt/b/inner/deep").code != 0
