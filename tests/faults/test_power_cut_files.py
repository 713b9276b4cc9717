"""The power goes: what finished operations left on the disk beside the log is there afterwards, whole, and what was deleted is gone.

The whole server lies on an ext4 of its own in a file, and that file on a btrfs. While everything stands still the file is cloned, in one
moment: the clone holds what the file system has sent to its disk, and nothing of what waits in memory. The server is then started on the
clone, and every file that an operation promised is compared with what it was. The log writes through all the time and takes the names of
other files along, but not their content: this is how files come to be empty after a power cut, and without the syncs of
`chassis/durable.py` this test finds them.

What it does not show: a disk that lies about its own cache; what instances write themselves, or clients into them (that is the clients'
own fsync); a pool on another file system than ext4 (btrfs pools use the same calls and are not cut here).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance import images
from tests.conformance.client import Client, eventually
from tests.conformance.servers import Nubibus
from tests.conformance.world import Ground, World
from tools.faults.subject import Subject

SIZE = 384 * 1024 * 1024  # bytes of the server's disk
QUIET = "commit=600"  # seconds until the file system would write its journal by itself


def empty_file(path: Path, size: int) -> Path:
    with path.open("wb") as out:
        out.truncate(size)
    return path


def mount(source: Path, target: Path, options: str) -> None:
    target.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", f"loop,{options}", str(source), str(target)], check=True)


def unmount(target: Path) -> None:
    """As soon as nothing uses it: the last processes of a server take its view of the mounts along when they end."""
    eventually(lambda: subprocess.run(["umount", str(target)], capture_output=True, check=False).returncode == 0)


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder that the users of containers may pass through."""
    with tempfile.TemporaryDirectory(prefix="nub-power-", dir=os.environ.get("NUBIBUS_TEST_TMP", "/tmp")) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def shelf(parent: Path) -> Iterator[Path]:
    """A folder on a btrfs, which can clone a file at once."""
    if shutil.which("mkfs.btrfs") is None or "btrfs" not in Path("/proc/filesystems").read_text().split():
        pytest.skip("needs btrfs: only there a disk can be copied in one moment")
    around, folder = empty_file(parent / "around", 4 * SIZE), parent / "shelf"
    subprocess.run(["mkfs.btrfs", "-q", str(around)], check=True)
    mount(around, folder, "defaults")
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def serving(disk: Path, directory: Path) -> Iterator[Nubibus]:
    """A server whose directory is on that disk."""
    mount(disk, directory, QUIET)
    server = Nubibus(directory)
    try:
        server.start()
        yield server
    finally:
        if server.started is not None:
            server.shut_down()
        unmount(directory)


def cut(server: Nubibus, disk: Path, copy: Path) -> None:
    """What the disk holds at one moment in which no process writes."""
    found = Subject.__new__(Subject)
    found.directory = server.directory
    pids = [pid for pid in found.pids().values() if pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        subprocess.run(["cp", "--reflink=always", str(disk), str(copy)], check=True)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Promised:
    """Things that operations made, and what the files of each must be."""

    def __init__(self, server: Nubibus, pools: tuple[str, str], image: str) -> None:
        self.directory = server.directory
        self.api = Client(server.socket)
        self.pools = pools
        self.image = image
        self.world = World(Ground(self.api, pools[0], image))

    def volumes(self, pool: int = 0) -> str:
        return f"/1.0/storage-pools/{self.pools[pool]}/volumes/custom"

    def make(self) -> str:
        """Everything; the fingerprint of the image that was published."""
        api, volumes = self.api, self.volumes()
        for name in ("kept", "renamed-later", "deleted"):
            api.post("/1.0/instances", self.world.body(name))
        self.rootfs("deleted").joinpath("mark").write_text("of an instance that was deleted")
        os.sync()  # the first ones are not what is tested: they must be on the disk to come back
        api.delete("/1.0/instances/deleted")
        api.post("/1.0/instances/renamed-later", {"name": "renamed"})
        published = api.post("/1.0/images", {"source": {"type": "instance", "name": "kept"}})
        api.post(volumes, {"name": "v", "type": "custom", "config": {}})
        file = self.directory / "storage-pools" / self.pools[0] / "custom" / "default_v" / "file"
        file.write_bytes(os.urandom(300_000))
        api.post(f"{volumes}/v/snapshots", {"name": "s"})
        api.post(f"{volumes}/v/backups", {"name": "b"})
        source = {"type": "copy", "name": "v", "pool": self.pools[0]}
        for name in ("copied", "moved-later", "refreshed"):
            body = {"name": name, "type": "custom", "source": source}
            api.post(volumes, body if name != "refreshed" else {**body, "source": {"type": "none"}})
        api.post(volumes, {"name": "refreshed", "type": "custom", "source": {**source, "refresh": True}})
        api.post(f"{volumes}/moved-later", {"name": "moved", "pool": self.pools[1]})
        archive = api.request("GET", f"{volumes}/v/backups/b/export").body
        api.wait(api.request("POST", volumes, archive, {"X-LXD-name": "restored"}))
        api.post("/1.0/instances", self.world.body("last"))
        return str(published["metadata"]["fingerprint"])

    def rootfs(self, instance: str) -> Path:
        return self.directory / "storage-pools" / self.pools[0] / "containers" / instance / "rootfs"

    def digests(self) -> dict[str, str]:
        """Of every file of instances, volumes, snapshots, backups and images, by its path below the directory."""
        found = {}
        for top in ("storage-pools", "backups", "images"):
            for path in sorted((self.directory / top).rglob("*")):
                if "backup.yaml" in path.name or path.is_symlink() or not path.is_file():
                    continue  # backup.yaml follows each change a moment later
                found[str(path.relative_to(self.directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def check(self, before: dict[str, str], published: str) -> None:
        after = self.digests()
        # The volume v was written by the test and not synced: nobody promised its content.
        mine = {path for path in before if path.endswith("custom/default_v/file")}
        differing = {path for path, digest in before.items() if after.get(path) != digest} - mine
        assert not differing, (
            f"{len(differing)} of {len(before)} files are not what they were: {sorted(differing)[:10]}"
        )
        for name in ("kept", "renamed", "last"):
            description = self.rootfs(name).parent / "backup.yaml"
            yaml.safe_load(description.read_text())["volume"]["name"]  # whole; a change comes into it a little later
            self.world.start(name)
            eventually(lambda name=name, file=description: yaml.safe_load(file.read_text())["volume"]["name"] == name)
        exported = self.api.request("GET", f"/1.0/images/{published}/export")
        assert images.fingerprint(exported.body) == published
        assert self.api.request("GET", f"{self.volumes(1)}/moved").status == 200
        assert self.api.request("GET", "/1.0/instances/deleted").status == 404
        self.api.post("/1.0/instances", self.world.body("deleted"))
        assert not self.rootfs("deleted").joinpath("mark").exists(), "the files of a deleted instance came back"
        self.world.start("deleted")  # made of the unpacked image that is kept beside the pools: it is whole too


@pytest.mark.timeout(400)
def test_what_operations_left_on_the_disk_outlives_a_power_cut(shelf: Path, parent: Path) -> None:
    disk, copy, directory = empty_file(shelf / "disk", SIZE), shelf / "copy", parent / "d"
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
    with serving(disk, directory) as server:
        api = Client(server.socket)
        pools: Any = ("one", "two")
        for pool in pools:
            api.post("/1.0/storage-pools", {"name": pool, "driver": "dir", "config": {}})
        promised = Promised(server, pools, images.upload(api, images.unified_with({"power": "cut"})))
        published = promised.make()
        before = promised.digests()
        cut(server, disk, copy)
    with serving(copy, directory) as server:
        again = Promised(server, pools, promised.image)
        again.check(before, published)
