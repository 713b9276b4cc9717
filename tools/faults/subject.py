"""The server under test: its processes, its failpoint, its log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chassis.bus import Bus
from chassis.log import Stored
from tests.conformance import images
from tests.conformance.client import Answer, Client, eventually
from tests.conformance.servers import Nubibus
from tests.conformance.world import Ground, World, unique

DEADLINE = 90.0
STARTER = "starter"
BUS = "nats"
PARTS = ("gateway", "control", "instances", "storage", "network", "images", BUS)


class Failing(Nubibus):
    """A server whose parts look into a file for what shall go wrong."""

    @property
    def failpoint(self) -> Path:
        return self.directory.parent / "failpoint"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "NUBIBUS_FAILPOINT": f"@{self.failpoint}"}


class Subject:
    """A running server with two pools, an image and two bridges. What is entered into `kept` is left at the end."""

    def __init__(self, server: Failing, world: World, other_pool: str, kept: contextlib.ExitStack) -> None:
        self.server = server
        self.world = world
        self.other_pool = other_pool
        self.kept = kept
        self._seen = 0
        self.bridge, self.other_bridge = world.bridge(), world.bridge()
        self.directory = server.directory

    @property
    def api(self) -> Client:
        return self.world.api

    # Processes.

    def pids(self) -> dict[str, int]:
        """Of the parts, as the supervisor has them; 0 for one that does not run."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(DEADLINE)
            control.connect(str(self.directory / "run" / "supervisor.sock"))
            control.sendall(b'{"do": "status"}\n')
            answer = json.loads(control.makefile().readline())
        return {part["name"]: int(part["pid"]) for part in answer["parts"]}

    def pid(self, victim: str) -> int:
        if victim != STARTER:
            return self.pids().get(victim, 0)
        parent = self.pids()["instances"]
        children = Path(f"/proc/{parent}/task/{parent}/children")
        for pid in map(int, children.read_text().split()) if parent and children.exists() else ():
            with contextlib.suppress(OSError):
                if b"forker.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def kill(self, victim: str) -> int:
        """kill -9; the pid that it had."""
        pid = int(eventually(lambda: self.pid(victim), DEADLINE))
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_replaced(self, victim: str, pid: int) -> None:
        """Until another process has taken the place. A starter is only made when it is needed."""
        if victim != STARTER:
            eventually(lambda: self.pid(victim) not in (0, pid), DEADLINE)

    def wait_ready(self) -> None:
        """Until every part answers."""
        eventually(lambda: not self.away(), DEADLINE)

    def away(self) -> list[str]:
        """Parts that do not answer: each is asked for a thing that it does not have, over the bus."""
        paths = ("projects", "instances", "storage-pools", "networks", "images")
        return [path for path in paths if self.try_request("GET", f"/1.0/{path}/none").status not in (200, 404)]

    def try_request(self, method: str, path: str, body: Any = None) -> Answer:
        """The answer; status 0 when no server answered."""
        with contextlib.suppress(OSError, ConnectionError, Exception):
            return self.api.request(method, path, body, timeout=DEADLINE)
        return Answer(0, {}, b"")

    # The failpoint.

    def arm(self, text: str) -> None:
        fresh = self.server.failpoint.with_suffix(".fresh")
        fresh.write_text(text)
        fresh.replace(self.server.failpoint)

    def disarm(self) -> None:
        self.server.failpoint.unlink(missing_ok=True)
        self.reached.unlink(missing_ok=True)

    @property
    def reached(self) -> Path:
        return Path(f"{self.server.failpoint}.reached")

    def fired(self) -> bool:
        return not self.server.failpoint.exists()

    # The log.

    def rows(self) -> dict[str, Any]:
        """Every row that stands in the log, by its subject."""
        return asyncio.run(_rows(self.directory))

    def news(self) -> list[str]:
        """The actions of the lifecycle events that came into the log since this was last asked."""
        found = asyncio.run(_page_all(self.directory, "event.lifecycle.>", self._seen))
        self._seen = max((event.sequence for event in found), default=self._seen)
        return [json.loads(event.data)["metadata"]["action"] for event in found]


async def _rows(directory: Path) -> dict[str, Any]:
    return {row.subject: json.loads(row.data) for row in await _page_all(directory, "row.>", 0) if row.data}


async def _page_all(directory: Path, pattern: str, after: int) -> list[Stored]:
    """What the log keeps under a pattern beyond a sequence."""
    bus = Bus(directory, "faults")
    await bus.connect(DEADLINE)
    found: list[Stored] = []
    try:
        while page := await bus.page(pattern, after, 256):
            after = page[-1].sequence
            found += page
    finally:
        await bus.close()
    return found


@contextlib.contextmanager
def subject(small_disk: int = 0) -> Iterator[Subject]:
    """A server of its own; everything of it is gone afterwards. `small_disk`: MiB of a file system made for it."""
    parent = Path(tempfile.mkdtemp(prefix="nub-faults-", dir=os.environ.get("NUBIBUS_TEST_TMP", "/tmp")))
    parent.chmod(0o711)
    server = Failing(parent / "d")
    try:
        if small_disk:
            _mount_small(server.directory, small_disk)
        server.start()
        api = Client(server.socket)
        pool, other_pool = unique("pool"), unique("pool")
        for name in (pool, other_pool):
            api.post("/1.0/storage-pools", {"name": name, "driver": "dir", "config": {}})
        ground = Ground(api, pool, images.upload(api, images.unified_with({"faults": pool}, "tar.gz")))
        world = World(ground)
        try:
            with contextlib.ExitStack() as kept:
                yield Subject(server, world, other_pool, kept)
        finally:
            server.failpoint.unlink(missing_ok=True)
            with contextlib.suppress(
                Exception
            ):  # what is left is told by the cases, and the server's end clears the host
                world.close()
    finally:
        try:
            if small_disk:
                _end_small(server)
        finally:
            server.close()


def _mount_small(directory: Path, size: int) -> None:
    file = directory.with_name("disk")
    with file.open("wb") as out:
        out.truncate(size * 1024 * 1024)
    directory.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(file)], check=True)
    subprocess.run(["mount", "-o", "loop", str(file), str(directory)], check=True)


def _end_small(server: Failing) -> None:
    """The server first: it uses the mount."""
    if server.started is not None:
        server.shut_down()
    if subprocess.run(["umount", str(server.directory)], check=False).returncode != 0:
        subprocess.run(["umount", "--lazy", str(server.directory)], check=True)


def pause() -> None:
    """Between two looks."""
    time.sleep(0.01)
