"""A network's change is interrupted at every border: after the next start the log and the host agree, and nothing is left.

Here no saga runs: a network's row is the journal (keeper.py). The host is real, in namespaces of one thread.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chassis import errors
from chassis.calls import Call, Caller
from chassis.store import Store
from chassis.testing.memory import MemoryLog
from gen.nubibus.network.v1 import network_pb2
from services.network import nftables
from services.network.host import Host
from services.network.keeper import Keeper
from services.network.network import Networks
from services.network.usage import Usage
from tests.drivers.network.conftest import host, sh

__all__ = ["host"]
ADMIN = Call(caller=Caller(protocol="unix", username="root", admin=True, trusted=True))
TEXTS = {"ipv4.address": "198.18.1.1/24", "ipv6.address": "none"}


class Crash(BaseException):
    """The service dies here."""


@dataclass
class Life:
    """One life of the service, that ends at the n-th border: before or after it talks to the log or to the host."""

    store: Store
    keeper: Keeper
    networks: Networks
    borders: int = 0
    dies_at: int = 0

    def border(self) -> None:
        self.borders += 1
        if self.borders == self.dies_at:
            raise Crash


def guarded(life: Life, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        life.border()
        found = await function(*args, **kwargs)
        life.border()
        return found

    return call


async def begin(log: MemoryLog, host: Host, dies_at: int = 0) -> Life:
    store = Store(log)
    usage = Usage(store)
    keeper = Keeper(store, usage, host)
    life = Life(store, keeper, Networks(store, usage, keeper, "none"))
    await store.start()
    await keeper.establish()
    life.dies_at = dies_at
    store.commit = guarded(life, store.commit)  # type: ignore[method-assign]
    return life


class DyingHost(Host):
    """The same host, whose every visit is a border of a life."""

    def __init__(self, host: Host) -> None:
        self.__dict__ = host.__dict__
        self.real = host

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        life: Life | None = self.__dict__.get("life")
        if life:
            life.border()
        found = await Host.run(self, work, *args, **kwargs)
        if life:
            life.border()
        return found


async def create(life: Life) -> None:
    body = json.dumps({"name": "nb0", "config": TEXTS}).encode()
    await life.networks.Create(network_pb2.CreateNetworkRequest(body=body), ADMIN)


async def change(life: Life) -> None:
    body = json.dumps({"config": {**TEXTS, "ipv4.address": "198.18.2.1/24"}}).encode()
    await life.networks.Put(network_pb2.PutNetworkRequest(name="nb0", body=body), ADMIN)


async def rename(life: Life) -> None:
    await life.networks.Rename(network_pb2.PutNetworkRequest(name="nb0", body=b'{"name": "nb1"}'), ADMIN)


async def delete(life: Life) -> None:
    await life.networks.Delete(network_pb2.NetworkRequest(name="nb0"), ADMIN)


async def agree(log: MemoryLog, host: Host) -> set[str]:
    """Start again and look: what the rows say must stand, and nothing else. The names of the networks."""
    life = await begin(log, host)
    rows = {row.value.name: row.value for row in life.keeper.usage.networks.select()}
    assert all(row.status == "Created" for row in rows.values())
    found = json.loads(await host.run(sh, "ip -j address show type bridge"))
    assert {link["ifname"] for link in found if link} == set(rows)
    for link in filter(None, found):
        addresses = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
        assert addresses == {rows[link["ifname"]].config["ipv4.address"]}
    assert {path.name for path in host.networks.glob("*")} == set(rows)
    tables = await host.run(lambda h: nftables.tables("nubibus_"))
    assert {name.split("_", 2)[2] for _, name in tables} == set(rows)
    await life.store.stop()
    return set(rows)


OUTCOMES = {
    create: ({"nb0"}, set()),
    change: ({"nb0"},),
    rename: ({"nb0"}, {"nb1"}),
    delete: ({"nb0"}, set()),
}


@pytest.fixture
async def dying(host: Host) -> AsyncIterator[Host]:
    yield DyingHost(host)
    host.__dict__.pop("life", None)
    host.__dict__.pop("real", None)


@pytest.mark.parametrize("action", list(OUTCOMES), ids=lambda action: action.__name__)
async def test_a_change_that_dies_anywhere_is_whole_or_gone(
    dying: Host, action: Callable[[Life], Awaitable[None]]
) -> None:
    dies_at, alive = 0, False
    while not alive:
        dies_at += 1
        log = MemoryLog()
        first = await begin(log, dying)
        if action is not create:
            await create(first)
        await first.store.stop()
        life = await begin(log, dying, dies_at)
        dying.__dict__["life"] = life
        try:
            await action(life)
            alive = True
        except Crash:
            pass
        finally:
            dying.__dict__["life"] = None
            await life.store.stop()
        names = await agree(log, dying)
        assert names in OUTCOMES[action]
        last = await begin(log, dying)
        for name in names:
            await last.networks.Delete(network_pb2.NetworkRequest(name=name), ADMIN)
        await last.store.stop()
        assert await agree(log, dying) == set()
    assert dies_at > 4


@pytest.mark.parametrize("action", [change, rename])
async def test_a_change_that_the_host_refuses_leaves_everything_as_it_was(
    host: Host, action: Callable[[Life], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    life = await begin(log, host)
    await create(life)
    real = life.keeper.establish_one

    async def refuse(network: Any, before: Any = None) -> None:
        if network.name == "nb1" or network.config["ipv4.address"] == "198.18.2.1/24":
            await real(network, before)
            raise errors.Internal("the host refuses")
        await real(network, before)

    monkeypatch.setattr(life.keeper, "establish_one", refuse)
    with pytest.raises(errors.Internal, match="the host refuses"):
        await action(life)
    await life.store.stop()
    assert await agree(log, host) == {"nb0"}
