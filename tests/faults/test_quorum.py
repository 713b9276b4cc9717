"""The log three times, with the configuration of the cluster overlay: one nats-server may go at any time.

Only what needs names of a cluster is changed in it: addresses, ports and paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from chassis import errors, natsd
from chassis.bus import Bus
from chassis.store import Change, Kind, Store
from cli import log_backup
from tools.cluster_secrets import Authority
from tools.render import render

OVERLAY = Path(__file__).parents[2] / "deploy/k8s/overlays/cluster"
NUMBERS = range(3)
DEADLINE = 120.0


class Note(msgspec.Struct, frozen=True):
    name: str
    text: str


NOTE = Kind("test_note", Note, ("name",))


def free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to connections, so that none is taken between now and a server's start."""
    found: list[int] = []
    for port in random.sample(range(15000, 32000), 1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no port is free")


class Cluster:
    """Three nats-servers, each a process in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(itertools.product(("4222", "6222", "8222"), NUMBERS), free_ports(9), strict=True))
        self.processes: dict[int, asyncio.subprocess.Process] = {}
        manifests = {(m["kind"], m["metadata"]["name"]): m for m in render(OVERLAY)}
        self.configuration: dict[str, str] = manifests["ConfigMap", "nats"]["data"]
        self.replicas = manifests["ConfigMap", "nubibus"]["data"]["NUBIBUS_REPLICAS"]
        self.tls = folder / "tls"
        self.tls.mkdir()
        for name, data in Authority.fresh().issue("nats", (), ("127.0.0.1",)).items():
            (self.tls / name).write_bytes(data)
        self._turn = itertools.count()

    def _configure(self, number: int) -> Path:
        own = self.folder / str(number)
        own.mkdir(exist_ok=True)
        text = self.configuration["nats.conf"]
        for other in NUMBERS:
            host = f"nats-{other}.nats.nubibus.svc:6222"
            assert host in text
            text = text.replace(host, f"127.0.0.1:{self.ports['6222', other]}")
        for port in ("4222", "6222", "8222"):
            assert f": {port}\n" in text
            text = text.replace(f": {port}\n", f": {self.ports[port, number]}\n")
        (own / "nats.conf").write_text(
            text.replace("/etc/nubibus/tls", str(self.tls)).replace("/data", str(own / "data"))
        )
        (own / "accounts.conf").write_text(self.configuration["accounts.conf"])
        return own / "nats.conf"

    async def start(self, number: int) -> None:
        environment = {
            **os.environ,
            "POD_NAME": f"nats-{number}",
            "NATS_PASSWORD": "pw",
            "NATS_SUBSCRIBER_PASSWORD": "sub",
        }
        with (self.folder / f"{number}.log").open("ab") as out:
            self.processes[number] = await asyncio.create_subprocess_exec(
                natsd.server_path(), "-c", str(self._configure(number)), env=environment, stdout=out, stderr=out
            )

    async def kill(self, number: int) -> None:
        process = self.processes.pop(number)
        process.kill()
        await process.wait()

    def address(self) -> str:
        """One of those that run, in turn, as the name of a headless Service gives them."""
        living = sorted(self.processes)
        number = living[next(self._turn) % len(living)]
        return f"tls://nubibus:pw@127.0.0.1:{self.ports['4222', number]}"


@pytest_asyncio.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    found = Cluster(tmp_path)
    monkeypatch.setenv("NUBIBUS_TLS", str(found.tls))
    monkeypatch.setenv("NUBIBUS_NATS", "tls://nats.nubibus.svc:4222")
    monkeypatch.setenv("NUBIBUS_REPLICAS", found.replicas)
    try:
        for number in NUMBERS:
            await found.start(number)
        yield found
    finally:
        for number in list(found.processes):
            await found.kill(number)


async def standing(bus: Bus) -> tuple[int, int]:
    """(number of the log's leader, how many copies keep up with it)."""
    info = await bus.stream()
    others = info["cluster"].get("replicas", [])
    leader = info["cluster"].get("leader") or "nats--1"
    return int(leader.partition("-")[2]), 1 + sum(r["current"] and not r.get("offline", False) for r in others)


async def wait_for_copies(bus: Bus, count: int) -> int:
    """The number of the leader once `count` copies keep up."""
    while True:
        try:
            leader, copies = await standing(bus)
            if copies == count and leader >= 0:
                return leader
        except errors.Unavailable:
            pass
        await asyncio.sleep(0.1)


async def write(store: Store, name: str) -> None:
    """A row that must come into the log, however often it has to be tried."""
    while True:
        try:
            await store.commit(Change().put(NOTE, Note(name, "written"), expect=None))
            return
        except errors.Unavailable:
            await asyncio.sleep(0.1)


async def test_writes_go_on_without_the_leader_and_nothing_is_lost(cluster: Cluster) -> None:
    bus = Bus(cluster.address, "test")
    async with asyncio.timeout(DEADLINE):
        await bus.connect()
        store = Store(bus, "test")
        notes = store.mirror(NOTE)
        await store.start()
        try:
            leader = await wait_for_copies(bus, 3)
            await write(store, "before")
            await cluster.kill(leader)
            await write(store, "meanwhile")
            await cluster.start(leader)
            await wait_for_copies(bus, 3)
            await write(store, "after")
            assert sorted(row.value.name for row in notes.select()) == ["after", "before", "meanwhile"]
        finally:
            await store.stop()
            await bus.close()


async def test_a_restored_log_has_its_three_copies(cluster: Cluster) -> None:
    bus = Bus(cluster.address, "test")
    async with asyncio.timeout(DEADLINE):
        await bus.connect()
        try:
            store = Store(bus, "test")
            await store.start()
            await write(store, "before")
            kept = await log_backup.read(bus)
            await write(store, "after")
            await store.stop()
            await wait_for_copies(bus, 3)
            await log_backup.replace(bus, kept)
            await wait_for_copies(bus, 3)
            assert [subject for subject, *_ in (await log_backup.read(bus)).rows] == ["row.test_note.before"]
        finally:
            await bus.close()
