"""One server under measurement, and what every row needs of it: an image, a pool, a bridge, instances."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance import images, servers
from tests.conformance.client import Client
from tests.conformance.servers import Server
from tests.conformance.world import Ground, World, unique

MONITOR = b"[lxc monitor] "  # so liblxc titles the process that it leaves beside each running instance


class Subject:
    """A started server with a `dir` pool and the busybox image."""

    def __init__(self, label: str, server: Server, world: World) -> None:
        self.label = label
        self.server = server
        self.world = world

    @property
    def api(self) -> Client:
        return self.world.api

    def processes(self) -> list[int]:
        """The server's own processes: its tree and what names its directory; no instance's payload."""
        started = self.server.started
        assert started is not None
        found = _tree(started.pid)
        directory = str(self.server.directory).encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and directory in _read(entry / "cmdline"):
                found.add(int(entry.name))
        return sorted(found)

    def memory(self) -> tuple[float, float]:
        """PSS in MiB: of all its parts together, and of liblxc's monitors, one for each running instance."""
        parts, monitors = 0, 0
        for pid in self.processes():
            if _read(Path(f"/proc/{pid}/cmdline")).startswith(MONITOR):
                monitors += _pss(pid)
            else:
                parts += _pss(pid)
        return parts / 1024, monitors / 1024


@contextmanager
def subject(kind: str) -> Iterator[Subject]:
    server = servers.make(kind)
    try:
        server.start()
        api = Client(server.socket)
        pool = unique("pool")
        api.post("/1.0/storage-pools", {"name": pool, "driver": "dir", "config": {}})
        ground = Ground(api, pool, images.upload(api, images.unified_with({"bench": kind}, "tar.gz")))
        world = World(ground)
        try:
            yield Subject(kind, server, world)
        finally:
            world.close()
            api.delete(f"/1.0/images/{ground.image}")
            api.delete(f"/1.0/storage-pools/{pool}")
    finally:
        server.close()


def milliseconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1000


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _tree(pid: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _read(Path("/proc") / entry / "stat")):
            children.setdefault(int(stat.rsplit(b")", 1)[1].split()[1]), []).append(int(entry))
    found, queue = set(), [pid]
    while queue:
        found.add(current := queue.pop())
        queue += children.get(current, [])
    return found - _payloads(found)


def _payloads(pids: set[int]) -> set[int]:
    """Those that run inside an instance."""
    return {pid for pid in pids if b"lxc.payload" in _read(Path(f"/proc/{pid}/cgroup"))}


def _pss(pid: int) -> int:
    if b"lxc.payload" in _read(Path(f"/proc/{pid}/cgroup")):
        return 0
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0
