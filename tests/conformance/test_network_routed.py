"""Routed nics: addresses of their own by routes and proxies on a parent, without a bridge. And macvlan."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import eventually
from tests.conformance.host import Outside, counter, host, link, outside, routes
from tests.conformance.world import World, unique

THIRD = 114
ADDRESS, ADDRESS6 = f"198.19.{THIRD}.50", f"fd42:0:0:{THIRD:x}::50"


def segment(number: int) -> Iterator[tuple[str, Outside]]:
    """The host's interface on a segment of its own, that routes as routed nics demand, and a machine there."""
    with outside(number) as machine:
        parent = host("sh", "-c", f"ip -o -4 address show to 198.19.{number}.1 | awk '{{print $2}}'").strip()
        proxy = Path("/proc/sys/net/ipv6/conf/all/proxy_ndp")
        before = proxy.read_text()
        switches = [
            f"ipv4/conf/{parent}/forwarding",
            *(f"ipv6/conf/{at}/{what}" for at in ("all", parent) for what in ("forwarding", "proxy_ndp")),
        ]
        for switch in switches:
            Path(f"/proc/sys/net/{switch}").write_text("1")
        yield parent, machine
        proxy.write_text(before)


@pytest.fixture
def street() -> Iterator[tuple[str, Outside]]:
    yield from segment(THIRD)


def routed(parent: str = "", **keys: str) -> dict[str, str]:
    device = {"type": "nic", "nictype": "routed", "name": "eth0", **({"parent": parent} if parent else {})}
    return {**device, **{key.replace("__", "."): value for key, value in keys.items()}}


def peer(world: World, name: str, device: str = "eth0") -> str:
    return str(world.api.get(f"/1.0/instances/{name}")["config"][f"volatile.{device}.host_name"])


def reached(machine: Outside, address: str) -> bool:
    return "1 received" in machine.run("sh", "-c", f"ping -c 1 -W 1 {address} || true")


@pytest.mark.extension("container_nic_routed")
def test_a_machine_on_the_segment_reaches_a_routed_nic(world: World, street: tuple[str, Outside]) -> None:
    parent, machine = street
    device = routed(parent, ipv4__address=ADDRESS, ipv6__address=ADDRESS6)
    name = world.instance(start=True, devices={"eth0": device})
    eventually(lambda: reached(machine, ADDRESS))
    eventually(lambda: reached(machine, ADDRESS6))
    near = peer(world, name)
    assert {ADDRESS, ADDRESS6} <= set(routes(near))
    neighbours = json.loads(host("ip", "-j", "neighbour", "show", "proxy", "dev", parent))
    assert {ADDRESS, ADDRESS6} <= {entry["dst"] for entry in neighbours}
    inside = world.shell(name, "ip address show dev eth0; ip route; ip -6 route")
    assert f"{ADDRESS}/32" in inside
    assert "default via 169.254.0.1" in inside
    assert "default via fe80::1" in inside
    world.stop(name)
    assert link(near) is None
    assert not json.loads(host("ip", "-j", "neighbour", "show", "proxy", "dev", parent))


@pytest.mark.extension("container_nic_routed_host_address")
def test_the_hosts_side_has_the_address_that_is_given(world: World, street: tuple[str, Outside]) -> None:
    parent, machine = street
    device = routed(parent, ipv4__address=ADDRESS, ipv4__host_address="169.254.0.9")
    name = world.instance(start=True, devices={"eth0": device})
    assert "169.254.0.9/32" in host("ip", "address", "show", "dev", peer(world, name))
    assert "default via 169.254.0.9" in world.shell(name, "ip route")
    eventually(lambda: reached(machine, ADDRESS))


@pytest.mark.extension("container_nic_routed_host_table")
def test_the_addresses_stand_in_a_further_table_too(world: World, street: tuple[str, Outside]) -> None:
    parent, _ = street
    device = routed(parent, ipv4__address=ADDRESS, ipv4__host_table="1100")
    name = world.instance(start=True, devices={"eth0": device})
    near = peer(world, name)
    assert ADDRESS in host("ip", "route", "show", "table", "1100")
    assert ADDRESS in routes(near)
    world.stop(name)
    assert ADDRESS not in host("sh", "-c", "ip route show table 1100 2>/dev/null || true")


@pytest.mark.extension("container_nic_routed_gateway")
def test_a_second_routed_nic_without_gateway_stands_beside_the_first(world: World, street: tuple[str, Outside]) -> None:
    parent, _ = street
    second = f"198.19.{THIRD}.51"
    quiet = {"ipv4__gateway": "none", "ipv6__gateway": "none"}
    devices = {
        "eth0": routed(parent, ipv4__address=ADDRESS),
        "eth1": {**routed(parent, ipv4__address=second, **quiet), "name": "eth1"},
    }
    name = world.instance(start=True, devices=devices)
    inside = world.shell(name, "ip route; ip address")
    assert inside.count("default via") == 1
    assert f"{second}/32" in inside
    both = {"eth1": {**routed(parent, ipv4__address=second), "name": "eth1"}}
    other = world.instance(devices={"eth0": devices["eth0"]})
    refused = world.api.refusal("PATCH", f"/1.0/instances/{other}", {"devices": both})
    assert 'already uses "ipv4.gateway" in auto mode' in refused.text


@pytest.mark.extension("container_nic_routed_limits")
def test_a_limit_of_a_routed_nic_can_change_while_it_runs(world: World, street: tuple[str, Outside]) -> None:
    parent, machine = street
    device = routed(parent, ipv4__address=ADDRESS, limits__ingress="10Mbit")
    name = world.instance(start=True, devices={"eth0": device})
    near = peer(world, name)
    assert "rate 10Mbit" in host("tc", "class", "show", "dev", near)
    eventually(lambda: reached(machine, ADDRESS))
    before = counter(near, "tx_bytes")
    world.api.patch(f"/1.0/instances/{name}", {"devices": {"eth0": {**device, "limits.ingress": "20Mbit"}}})
    assert "rate 20Mbit" in host("tc", "class", "show", "dev", near)
    eventually(lambda: reached(machine, ADDRESS))
    assert counter(near, "tx_bytes") > before


@pytest.mark.extension("instance_nic_routed_neighbor_probe")
def test_an_address_that_somebody_has_is_refused_unless_nobody_asks(world: World, street: tuple[str, Outside]) -> None:
    parent, machine = street
    name = world.instance(devices={"eth0": routed(parent, ipv4__address=machine.address)})
    refused = world.api.refusal("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
    assert f'IP address "{machine.address}" in use on parent network "{parent}"' in refused.text
    unasked = routed(parent, ipv4__address=machine.address, ipv4__neighbor_probe="false")
    world.api.patch(f"/1.0/instances/{name}", {"devices": {"eth0": unasked}})
    world.state(name, "start")


@pytest.mark.extension("container_nic_routed")
def test_a_host_that_does_not_route_is_refused(world: World, street: tuple[str, Outside]) -> None:
    parent, _ = street
    host("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{parent}/forwarding")
    name = world.instance(devices={"eth0": routed(parent, ipv4__address=ADDRESS)})
    refused = world.api.refusal("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
    assert f"Routed mode requires sysctl net.ipv4.conf.{parent}.forwarding=1" in refused.text


WRONG = [
    ({"vlan": "5"}, "The vlan setting can only be used when combined with a parent interface"),
    ({"ipv4.address": "x"}, "Not an IPv4 address"),
    ({"ipv4.gateway": "192.0.2.1"}, "Invalid gateway: 192.0.2.1"),
    ({"ipv4.host_address": "abc"}, "Not an IPv4 address"),
    ({"ipv4.host_table": "abc"}, "Invalid value for uint32"),
    ({"ipv4.neighbor_probe": "abc"}, "Invalid value for a boolean"),
    ({"ipv4.routes": "10.0.0.0/24"}, "ipv4.routes requires ipv4.address to be set"),
    ({"ipv4.address": "192.0.2.50,192.0.2.50"}, 'Duplicate address "192.0.2.50"'),
]


@pytest.mark.extension("container_nic_routed")
@pytest.mark.parametrize(("keys", "told"), WRONG)
def test_a_wrong_routed_nic_is_refused(world: World, keys: dict[str, str], told: str) -> None:
    name = unique("bad")
    world.finally_do(lambda: world.remove_instance(name))
    refused = world.api.refusal("POST", "/1.0/instances", world.body(name, devices={"eth0": {**routed(), **keys}}))
    assert told in refused.text


def macvlan_network(world: World, parent: str) -> str:
    name = unique("mv")
    world.finally_do(lambda: world.gone(f"/1.0/networks/{name}"))
    world.api.post("/1.0/networks", {"name": name, "type": "macvlan", "config": {"parent": parent}})
    return name


def on_segment(world: World, device: dict[str, str]) -> str:
    name = world.instance(start=True, devices={"eth0": device})
    world.shell(name, f"ip address add 198.19.{THIRD}.60/24 dev eth0; ip link set eth0 up")
    return name


@pytest.mark.extension("network_type_macvlan")
def test_a_nic_on_a_macvlan_network_is_on_its_parents_segment(world: World, street: tuple[str, Outside]) -> None:
    parent, machine = street
    network = macvlan_network(world, parent)
    name = on_segment(world, {"type": "nic", "network": network, "name": "eth0"})
    eventually(lambda: reached(machine, f"198.19.{THIRD}.60"))
    assert f"/1.0/instances/{name}" in world.api.get(f"/1.0/networks/{network}")["used_by"]
    assert world.api.refusal("GET", f"/1.0/networks/{network}/state").status == 404
    assert "in use" in world.api.refusal("DELETE", f"/1.0/networks/{network}").text


def test_a_macvlan_nic_is_gone_when_its_instance_stops(world: World, street: tuple[str, Outside]) -> None:
    parent, machine = street
    name = on_segment(world, {"type": "nic", "nictype": "macvlan", "parent": parent, "name": "eth0"})
    eventually(lambda: reached(machine, f"198.19.{THIRD}.60"))
    world.stop(name)
    assert not json.loads(host("ip", "-j", "link", "show", "type", "macvlan"))


@pytest.mark.extension("network_type_macvlan")
@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, 'option "parent": Required value'),
        ({"parent": "nope0"}, 'Parent interface "nope0" not found'),
        ({"parent": "lo", "foo": "1"}, "Invalid option for network"),
    ],
)
def test_a_wrong_macvlan_network_is_refused(world: World, config: dict[str, Any], told: str) -> None:
    body = {"name": unique("mv"), "type": "macvlan", "config": config}
    refused = world.api.refusal("POST", "/1.0/networks", body)
    assert refused.status == 500
    assert told in refused.text
