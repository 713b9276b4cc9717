"""A host layer of its own for each test, a busybox rootfs, and the check that nothing of a test stays on the machine."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.instances.host import exec as host_exec
from services.instances.host.containers import Containers
from services.instances.host.idmap import IdMap, both
from services.instances.host.places import Places
from services.instances.host.spec import Exit, Key, Spec
from services.instances.host.starter import Starter
from tools.busybox_image import Tree as Tar
from tools.busybox_image import add_rootfs

IDMAP = both(1_000_000, 0, 65_536)

requires_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@dataclass
class World:
    """The layer, and what it has told."""

    directory: Path
    volumes: Path
    rootfs: Path
    starter: Starter
    containers: Containers
    exits: list[tuple[Key, Exit]] = field(default_factory=list)

    def spec(self, name: str = "c1", idmap: IdMap | None = IDMAP, project: str = "default", **more: object) -> Spec:
        """With a volume of its own; keyword arguments are Spec's."""
        volume = self.volumes / f"{project}_{name}"
        if not volume.exists():
            volume.mkdir()
            subprocess.run(["cp", "-a", str(self.rootfs), str(volume / "rootfs")], check=True)
        return Spec(Key(project, name), "uid", volume, idmap=idmap, **more)  # type: ignore[arg-type]

    async def run(self, key: Key, *command: str) -> tuple[int, str]:
        code, output = await host_exec.run(self.containers, key, command)
        return code, output.decode()

    async def shell(self, key: Key, script: str) -> str:
        """What a script says; it must succeed."""
        code, output = await self.run(key, "sh", "-c", script)
        assert code == 0, output
        return output

    async def reopen(self) -> None:
        """As the next life of the service finds it."""
        await self.containers.close()
        self.starter.close()
        self.starter = Starter.spawn()
        self.containers = Containers(self.directory, self.starter, lambda key, how: self.exits.append((key, how)))
        await self.containers.open()


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked once; tests get copies."""
    folder = tmp_path_factory.mktemp("rootfs")
    folder.chmod(0o755)
    tar = Tar()
    add_rootfs(tar)
    with tarfile.open(fileobj=io.BytesIO(tar.bytes())) as archive:
        archive.extractall(folder)  # our own archive; Debian's Python 3.11.2 knows no filter
    return folder


@pytest.fixture
async def world(tmp_path: Path, rootfs: Path) -> AsyncIterator[World]:
    for folder in (tmp_path, *tmp_path.parents):  # a container's root must be let through to its rootfs
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    directory, volumes = tmp_path / "d", tmp_path / "volumes"
    directory.mkdir()
    volumes.mkdir()
    starter = Starter.spawn()
    exits: list[tuple[Key, Exit]] = []
    containers = Containers(directory, starter, lambda key, how: exits.append((key, how)))
    found = World(directory, volumes, rootfs, starter, containers, exits)
    try:
        await containers.open()
        yield found
    finally:
        for key in list(found.containers.running()):
            await found.containers.kill(key)
        await found.containers.close()
        found.starter.close()
        leftovers = list(left_behind(found.containers.places, directory))
        shutil.rmtree(volumes)
        assert leftovers == []


def left_behind(places: Places, directory: Path) -> Iterator[str]:
    """Cgroups, mounts and processes of a server."""
    for hierarchy in places.layout.hierarchies:
        yield from (str(path) for path in hierarchy.group("").glob(f"lxc.*{places.token}*"))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(directory) in line:
            yield line
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in words and int(entry.name) != os.getpid() and b"pytest" not in words:
                yield f"{entry.name} {words!r}"


@pytest.fixture
def links() -> Iterator[Callable[[], tuple[str, str]]]:
    """Makes veth pairs (host's end, peer); they are gone after the test."""
    made: list[str] = []

    def make() -> tuple[str, str]:
        number = f"{os.getpid() % 100000}{len(made)}"
        ours, peer = f"nbh{number}", f"nbp{number}"
        subprocess.run(["ip", "link", "add", ours, "type", "veth", "peer", "name", peer], check=True)
        made.append(ours)
        return ours, peer

    yield make
    for name in made:
        subprocess.run(["ip", "link", "del", name], stderr=subprocess.DEVNULL)


@pytest.fixture
def other_life() -> list[str]:
    """A command that opens the layer in a process of its own and waits (see `life`): to be killed."""
    return [sys.executable, "-m", "tests.drivers.instances.life"]


async def eventually(claim: Callable[[], bool], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not claim():
            await asyncio.sleep(0.01)
