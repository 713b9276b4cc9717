"""Who uses a network, read from the rows of others; and what DHCP is told when they change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chassis import errors
from chassis.calls import ITSELF, Call
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from gen.nubibus.network.v1 import nic_pb2
from rows.control import PROJECT, Project
from rows.instance import INSTANCE, Instance
from rows.network import NETWORK, Network
from rows.profile import PROFILE, Profile
from services.network import leases
from services.network.host import Host
from services.network.keeper import Keeper
from services.network.nic import Nics
from services.network.usage import Usage

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NIC = {"type": "nic", "network": "nb0"}
MAC = "00:16:3e:00:00:01"
LEASES = f"""1700000000 {MAC} 198.18.1.9 c1 01:{MAC}
1700000000 00:16:3e:00:00:02 198.18.1.10 c2 *
"""
CALL = Call(caller=ITSELF)


class World:
    """The rows of a small installation on a log in memory."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(MemoryLog())
        self.usage = Usage(self.store)
        self.host = Host(directory)
        self.keeper = Keeper(self.store, self.usage, self.host)
        self.nics = Nics(self.usage, self.keeper)

    async def put(self, *values: Any) -> None:
        kinds = {Instance: INSTANCE, Profile: PROFILE, Network: NETWORK, Project: PROJECT}
        change = Change()
        for value in values:
            change.put(kinds[type(value)], value, expect=None)
        await self.store.commit(change)


def instance(name: str, project: str = "default", **fields: Any) -> Instance:
    return Instance(project=project, name=name, uid=name, created_at=NOW, **fields)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.store.start()
    subnet = {"ipv4.address": "198.18.1.1/24", "ipv6.address": "none"}
    await made.put(Network(project="default", name="nb0", config=subnet))
    await made.put(Network(project="default", name="nb1", config={"ipv4.address": "198.18.2.1/24"}))
    yield made
    await made.store.stop()
    await made.host.close()


async def test_users_are_networks_profiles_and_instances_with_what_profiles_give(world: World) -> None:
    await world.put(Network(project="default", name="mv", type="macvlan", config={"parent": "nb0"}))
    await world.put(Profile(project="default", name="p", devices={"eth0": NIC}))
    await world.put(instance("by-profile", profiles=("p",)), instance("own", devices={"eth0": NIC}))
    await world.put(instance("masked", profiles=("p",), devices={"eth0": {"type": "none"}}))
    by_parent = {"eth0": {"type": "nic", "nictype": "bridged", "parent": "nb0"}}
    await world.put(instance("by-parent", devices=by_parent))
    assert world.usage.users("default", "nb0") == [
        ("/1.0/networks/mv", "default"),
        ("/1.0/profiles/p", "default"),
        ("/1.0/instances/by-parent", "default"),
        ("/1.0/instances/by-profile", "default"),
        ("/1.0/instances/own", "default"),
    ]


async def test_another_project_uses_the_default_ones_networks_unless_it_has_its_own(world: World) -> None:
    await world.put(Project(name="shares", config={"features.profiles": "true"}))
    await world.put(Project(name="alone", config={"features.networks": "true"}))
    await world.put(instance("a", "shares", devices={"eth0": NIC}), instance("b", "alone", devices={"eth0": NIC}))
    assert world.usage.users("default", "nb0") == [("/1.0/instances/a?project=shares", "shares")]
    assert world.usage.users("alone", "nb0") == [("/1.0/instances/b?project=alone", "alone")]


async def test_a_project_that_does_not_exist_has_no_networks(world: World) -> None:
    with pytest.raises(errors.NotFound, match='Failed to load project "nope": Project not found'):
        world.usage.holder("nope")


async def test_dhcp_learns_of_a_nic_when_its_row_changes_and_of_nothing_else(world: World) -> None:
    world.keeper.watch()
    hosts = world.host.files("nb0").hosts
    config = {"volatile.eth0.hwaddr": "00:16:3e:00:00:01"}
    await world.put(instance("c1", devices={"eth0": NIC}, config=config))
    await world.keeper.flush_hosts()
    assert (hosts / "c1.eth0").read_text() == "00:16:3e:00:00:01,c1\n"
    await world.put(instance("c1", devices={"eth0": {**NIC, "ipv4.address": "198.18.1.9"}}, config=config))
    await world.keeper.flush_hosts()
    assert (hosts / "c1.eth0").read_text() == "00:16:3e:00:00:01,198.18.1.9,c1\n"
    await world.put(instance("c1", devices={"eth0": {**NIC, "network": "nb1"}}, config=config))
    await world.keeper.flush_hosts()
    assert not list(hosts.iterdir())
    assert (world.host.files("nb1").hosts / "c1.eth0").exists()


async def test_a_start_does_not_change_what_dhcp_knows(world: World) -> None:
    config = {"volatile.eth0.hwaddr": "00:16:3e:00:00:01"}
    await world.put(instance("c1", devices={"eth0": NIC}, config=config))
    world.keeper.watch()
    await world.keeper.flush_hosts()
    runs = world.keeper.hosts._asked
    await world.put(instance("c1", devices={"eth0": NIC}, config={**config, "volatile.eth0.host_name": "veth1"}))
    assert world.keeper.hosts._asked == runs


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What is given back to a dnsmasq: (interface, address of the server, address)."""
    found: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        leases, "release", lambda interface, server, entry: found.append((interface, server, entry.address))
    )
    return found


async def test_a_nic_that_is_forgotten_leaves_dhcp_at_once(world: World, released: list[tuple[str, str, str]]) -> None:
    spec = nic_pb2.NicSpec(project="default", instance="c1", device="eth0", volatile={"hwaddr": MAC})
    spec.config.update({**NIC, "ipv4.address": "198.18.1.9"})
    await world.nics.Update(spec, CALL)
    files = world.host.files("nb0")
    assert (files.hosts / "c1.eth0").exists()
    files.leases.write_text(LEASES)
    await world.nics.Forget(spec, CALL)
    assert not (files.hosts / "c1.eth0").exists()
    assert released == [("nb0", "198.18.1.1", "198.18.1.9")]


async def test_the_nic_of_a_row_that_goes_leaves_dhcp(world: World, released: list[tuple[str, str, str]]) -> None:
    world.keeper.watch()
    await world.put(instance("c1", devices={"eth0": NIC}, config={"volatile.eth0.hwaddr": MAC}))
    await world.keeper.flush_hosts()
    files = world.host.files("nb0")
    assert (files.hosts / "c1.eth0").exists()
    files.leases.write_text(LEASES)
    await world.store.commit(Change().delete(INSTANCE, ("default", "c1"), expect=None))
    await world.keeper.flush_hosts()
    assert not (files.hosts / "c1.eth0").exists()
    assert released == [("nb0", "198.18.1.1", "198.18.1.9")]


async def test_the_same_address_is_refused_for_another_instance_only(world: World) -> None:
    taken = {**NIC, "ipv4.address": "198.18.1.9"}
    await world.put(instance("c1", devices={"eth0": taken}))
    request = nic_pb2.NicRequest(project="default", instance="c1", device="eth0", config=taken)
    await world.nics.Validate(request, CALL)
    request.instance = "c2"
    with pytest.raises(errors.BadRequest, match="already defined on another NIC"):
        await world.nics.Validate(request, CALL)


async def test_an_instance_may_have_a_nic_on_each_network_but_not_two_on_one(world: World) -> None:
    await world.put(instance("c1", devices={"eth0": NIC, "eth1": {**NIC, "network": "nb1"}}))
    request = nic_pb2.NicRequest(project="default", instance="c1", device="eth1", config={**NIC, "network": "nb1"})
    await world.nics.Validate(request, CALL)
    request.config["network"] = "nb0"
    with pytest.raises(errors.BadRequest, match='Instance DNS name "c1" already used on network'):
        await world.nics.Validate(request, CALL)


async def test_a_missing_network_is_named_with_its_project(world: World) -> None:
    request = nic_pb2.NicRequest(project="default", device="eth0", config={"type": "nic", "network": "nope"})
    with pytest.raises(errors.BadRequest, match='Failed to load network "nope" for project "default"'):
        await world.nics.Validate(request, CALL)
